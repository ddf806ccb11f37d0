"""Where a board keeps what: `$EDGEPACK_HOME/boards/NAME/…`."""

from __future__ import annotations

from pathlib import Path

from edgepack.home import home

STATE = "board.json"
HOST_KEY = "host_key"
CLIENT_KEY = "client_key"
LOG = "server.log"
LISTENING = "listening"  # the port of a server that chose it itself, written when it answers
HOME = "home"  # the loopback board's HOME
TOOLS = "bin"  # first on the loopback board's PATH
KIND = ".edgepack-board"  # in the board's HOME: what the agent says it is


def boards() -> Path:
    return home() / "boards"


def folder(name: str) -> Path:
    return boards() / name


def inventory(name: str) -> Path:
    """The inventory file that lets every command name the board as a target."""
    return home() / "targets" / f"{name}.toml"
