"""Starting a board's server as a process of its own that outlives the command."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

import edgepack
from edgepack.boards import device, host, layout, places, processes, rootfs
from edgepack.errors import BoardError, UsageError

if TYPE_CHECKING:
    from edgepack.ports import Progress

_TRIES = 5
_PATIENCE = 30.0


@dataclass(frozen=True)
class Server:
    """A process that serves a board."""

    pid: int
    born: str
    port: int
    user: str


class Room(Struct, frozen=True, kw_only=True):
    """One board's own. root: the shared Debian; overlay: False where the file system cannot stack and the root was copied"""

    name: str
    folder: str
    root: str
    port: int
    user: str
    profile: str
    overlay: bool


@dataclass(frozen=True)
class Spawned:
    """A process that this one started and will not wait for."""

    pid: int
    born: str

    def runs(self) -> bool:
        return processes.runs(self.pid, self.born)

    def end(self) -> None:
        processes.end(self.pid, self.born, grace=0.0)


def start_loopback(name: str) -> Server:
    """Start the SSH server of a loopback board whose keys are in place. Raises BoardError where it does not."""
    folder = places.folder(name)
    _furnish(folder)
    (folder / places.LISTENING).unlink(missing_ok=True)
    user = user_name()
    process = spawn(folder, [sys.executable, "-P", "-m", "edgepack.boards.loopback", str(folder), user])
    port = _await_port(name, folder, process)
    return Server(process.pid, process.born, port, user)


def prepare_emulated(profile: str, progress: Progress) -> Path:
    """Make this machine able to host emulated boards; the root file system they share, built where it is not there yet.

    Raises UsageError where this machine cannot host one or the profile cannot be emulated, BoardError where it fails.
    """
    described = device.read(profile)
    if reason := host.can_host_emulated():
        raise UsageError(reason, advice="--kind loopback runs anywhere")
    host.prepare(progress, described.architecture)
    if described.note:
        progress.note(described.note)
    return rootfs.ensure(progress, rootfs.Shape(described.architecture, described.layout))


def start_emulated(name: str, profile: str, root: Path, progress: Progress) -> Server:
    """Start an emulated board over `root`, its keys being in place. Raises BoardError where it does not start."""
    folder = places.folder(name)
    overlay = _layers(folder, root, progress)
    described = device.read(profile)
    for number in range(_TRIES):  # another process may take the free port before sshd does
        port = described.port if described.port and number == 0 and _is_free(described.port) else free_port()
        room = Room(
            name=name,
            folder=str(folder),
            root=str(root),
            port=port,
            user=layout.of(described.layout).user,
            profile=profile,
            overlay=overlay,
        )
        if server := _enter(room):
            return server
    raise BoardError(f"board {name!r}: its sshd did not start\n{tail(folder)}", advice=f"edgepack board down {name}")


def _enter(room: Room) -> Server | None:
    """The board in namespaces of its own; None where its sshd ended before it listened."""
    folder = Path(room.folder)
    (folder / places.LOG).write_bytes(b"")
    inside = [sys.executable, "-P", "-m", "edgepack.boards.enter", msgspec.json.encode(room).decode()]
    process = spawn(folder, ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", *inside])
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and process.runs():
        if b"Server listening on" in (folder / places.LOG).read_bytes():
            # The first process inside is the one to watch and to end: with it the kernel ends all the others.
            pid = processes.child_of(process.pid)
            return Server(pid, processes.birth(pid), room.port, room.user)
        time.sleep(0.01)
    process.end()
    return None


def _layers(folder: Path, root: Path, progress: Progress) -> bool:
    """Whether the board writes into a layer over the shared root; where the file system cannot, it gets a copy."""
    if (folder / "root").is_dir():
        return False
    for part in ("upper", "work", "probe"):
        (folder / part).mkdir(exist_ok=True)
    (folder / "upper").chmod(0o755)
    layers = "lowerdir=probe,upperdir=upper,workdir=work"
    trial = ["sh", "-c", 'cd "$1" && exec mount -t overlay -o "$2" overlay probe', "sh", str(folder), layers]
    if host.run(["unshare", "--mount", *trial]).returncode == 0:
        return True
    progress.note(f"{folder}: this file system carries no overlay; the board gets a copy of the root")
    aside = folder / "root.new"
    host.must(["cp", "-a", "--reflink=auto", str(root), str(aside)], "copying the board's root")
    aside.replace(folder / "root")
    return False


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def spawn(folder: Path, command: list[str]) -> Spawned:
    """A detached process with next to nothing in its environment, its output in the board's log."""
    package = str(Path(edgepack.__file__).resolve().parent.parent)
    searched = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    path = os.environ.get("PATH", os.defpath)
    environment = {"PATH": path, "PYTHONPATH": searched, "LANG": "C.UTF-8", processes.MARK: str(folder)}
    log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(folder / places.LOG), log, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    program = shutil.which(command[0], path=path) or command[0]
    pid = os.posix_spawn(program, command, environment, file_actions=streams, setsid=True)
    return Spawned(pid, processes.birth(pid))


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


def _await_port(name: str, folder: Path, process: Spawned) -> int:
    limit = time.monotonic() + _PATIENCE
    while time.monotonic() < limit and process.runs():
        if (folder / places.LISTENING).exists():
            return int((folder / places.LISTENING).read_text())
        time.sleep(0.01)
    process.end()
    raise BoardError(f"board {name!r}: its SSH server did not start\n{tail(folder)}")


def tail(folder: Path) -> str:
    """The end of a board's log."""
    return "\n".join((folder / places.LOG).read_text(errors="replace").strip().splitlines()[-8:])
