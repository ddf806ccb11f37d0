"""Starting a board's server as a process of its own that outlives the command."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import edgepack
from edgepack.boards import places, processes
from edgepack.errors import BoardError


@dataclass(frozen=True)
class Server:
    """A process that serves a board."""

    pid: int
    born: str
    port: int
    user: str


def start_loopback(name: str) -> Server:
    """Start the SSH server of a loopback board whose keys are in place. Raises BoardError where it does not."""
    folder = places.folder(name)
    _furnish(folder)
    (folder / places.LISTENING).unlink(missing_ok=True)
    user = user_name()
    process = spawn(folder, [sys.executable, "-P", "-m", "edgepack.boards.loopback", str(folder), user])
    port = _await_port(name, folder, process)
    return Server(process.pid, processes.birth(process.pid), port, user)


def spawn(folder: Path, command: list[str]) -> subprocess.Popen[bytes]:
    """A detached process with next to nothing in its environment, its output in the board's log."""
    package = Path(edgepack.__file__).resolve().parent.parent
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(package),
        "LANG": "C.UTF-8",
        processes.MARK: str(folder),
    }
    with (folder / places.LOG).open("ab") as log:
        return subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def user_name() -> str:
    """The name of the user who runs edgepack; a container's nameless user is called by its id."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid{os.getuid()}"


def _furnish(folder: Path) -> None:
    """The board's HOME, and a `python3` that is the Python below any virtual environment: what a real board has."""
    (folder / places.HOME).mkdir(exist_ok=True)
    (folder / places.HOME / places.KIND).write_text("loopback\n")
    (folder / places.TOOLS).mkdir(exist_ok=True)
    python = folder / places.TOOLS / "python3"
    base = getattr(sys, "_base_executable", "") or sys.executable
    # A script, not a link: a virtual environment made through a link would look for its library beside the link.
    quoted = "'" + base.replace("'", "'\\''") + "'"
    python.write_text(f'#!/bin/sh\nexec {quoted} "$@"\n')
    python.chmod(0o755)


def _await_port(name: str, folder: Path, process: subprocess.Popen[bytes], seconds: float = 30.0) -> int:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        if (folder / places.LISTENING).exists():
            return int((folder / places.LISTENING).read_text())
        time.sleep(0.01)
    process.kill()
    process.wait()
    tail = (folder / places.LOG).read_text(errors="replace").strip().splitlines()[-8:]
    raise BoardError(f"board {name!r}: its SSH server did not start\n" + "\n".join(tail))
