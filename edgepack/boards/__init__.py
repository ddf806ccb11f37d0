"""Boards without hardware: real SSH, so that everything edgepack does to a device can be done where there is none.

A `loopback` board is this machine behind an SSH server of our own, anywhere, without root. An `emulated` board is a real
arm64 Debian under QEMU, where Linux and root allow it; a `machine` board is that with a kernel and a disk of its own, so that
its plug can be pulled. All are ordinary targets, their host keys already pinned.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from edgepack.boards import keys, launch, machine, places, processes, ready, record
from edgepack.boards.host import can_host_emulated, can_host_machine
from edgepack.boards.launch import Server
from edgepack.boards.record import BoardState, Record
from edgepack.errors import EdgepackError, InputError, UsageError
from edgepack.names import check_name
from edgepack.target import BoardKind, Target

if TYPE_CHECKING:
    from edgepack.ports import Progress

__all__ = [
    "BoardState",
    "can_host_emulated",
    "can_host_machine",
    "cut",
    "default_profile",
    "down",
    "listing",
    "restore",
    "snapshot",
    "up",
]

Start = Callable[[str], Server]

_PATIENCE = {"loopback": 30.0, "emulated": 60.0, "machine": 60.0}


def default_profile(kind: BoardKind) -> str:
    """The profile of a board that names none: this machine's for a loopback board, else the Raspberry Pi 4's."""
    match kind:
        case "loopback":
            machine = platform.machine().lower()
            return "linux-aarch64" if machine in ("aarch64", "arm64") else "linux-x86_64"
        case "emulated" | "machine":
            return "rpi4"
        case _:
            assert_never(kind)


def up(name: str, kind: BoardKind, profile: str, count: int, progress: Progress) -> tuple[Target, ...]:
    """Start the board NAME, or NAME-1 … NAME-N where `count` is above 1; boards that run already are left as they are.

    profile: empty for the kind's own. Returns when every board has run a command over SSH; a board that crashed comes back
    with its keys and its disk. Raises UsageError (a count below 1, another kind of board or a user's target of that name,
    or a machine that cannot host the kind) and BoardError (the board did not come up; nothing of it is left then).
    """
    if count < 1:
        raise UsageError(f"--count {count}: no boards to start", expected="1 or more")
    check_name(name, "board")
    profile = profile or default_profile(kind)
    members = (name,) if count == 1 else tuple(f"{name}-{number}" for number in range(1, count + 1))
    for member in members:
        check_name(member, "board")
    start = _starter(kind, profile, progress)
    if count == 1:
        with progress.step(f"starting the {kind} board {name}"):
            return (_up(name, name, kind, profile, start),)
    return tuple(
        _up(member, name, kind, profile, start)
        for member in progress.track(members, f"starting {count} {kind} boards", total=count)
    )


def down(name: str, progress: Progress) -> tuple[str, ...]:
    """End the board NAME, or all of NAME-1 … NAME-N, with every process, file and inventory entry; the names that ended.

    A name that no board has is no error, so that a clean-up may run twice; it is said.
    """
    check_name(name, "board")
    members = tuple(member for member in record.names() if member == name or _group(member) == name)
    if not members:
        progress.note(f"no board is called {name!r}: nothing to end")
        return ()
    with progress.step(f"ending {', '.join(members)}"):
        for member in members:
            with record.lock(places.boards() / f".{member}.lock"):
                _end(member)
                shutil.rmtree(places.folder(member))
                places.inventory(member).unlink(missing_ok=True)
    return members


def cut(name: str) -> None:
    """Pull the plug of a machine board: what it has not flushed to its disk is lost. `up` boots it again.

    Raises UsageError where there is no such board.
    """
    board = _machine(name)
    machine.pull_the_plug(board.pid, board.born)


def snapshot(name: str) -> None:
    """Keep a running machine board as it is now, for `restore`. Raises UsageError, BoardError."""
    _machine(name)
    machine.save(name)


def restore(name: str, progress: Progress) -> Target:
    """Put a machine board back to its snapshot, disk and all, running; much faster than a boot. Raises UsageError, BoardError."""
    board = _machine(name)
    with record.lock(places.boards() / f".{name}.lock"):
        _end(name)
        image = machine.prepare(board.profile, progress)
        return _serve(name, board.group, "machine", board.profile, machine.start(name, board.profile, image, True))


def listing() -> tuple[BoardState, ...]:
    """Every board that was started and not ended, by name; `running` says whether its server is alive now."""
    found = (record.read(name) for name in record.names())
    return tuple(
        BoardState(
            name=board.name,
            kind=board.kind,
            profile=board.profile,
            host=board.host,
            port=board.port,
            running=processes.runs(board.pid, board.born),
            pid=board.pid,
        )
        for board in found
        if board
    )


def _up(name: str, group: str, kind: BoardKind, profile: str, start: Start) -> Target:
    with record.lock(places.boards() / f".{name}.lock"):
        known = record.read(name)
        if known and (known.kind, known.profile) != (kind, profile):
            raise UsageError(
                f"board {name!r} exists already, {known.kind} with profile {known.profile}",
                advice=f"edgepack board down {name}, or another name",
            )
        if known and processes.runs(known.pid, known.born):
            target = record.target_of(known)
            ready.wait(target, lambda: processes.runs(known.pid, known.born), _log(name), _PATIENCE[kind])
        else:
            record.refuse_foreign(name)
            target = _restart(name, group, kind, profile, known is None, start)
        record.enlist(target)
        return target


def _restart(name: str, group: str, kind: BoardKind, profile: str, fresh: bool, start: Start) -> Target:
    """Start a board that does not run, after clearing what a crash left; a new one that fails leaves nothing."""
    folder = places.folder(name)
    try:
        _end(name)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys.make_pair(folder / places.HOST_KEY)
        keys.make_pair(folder / places.CLIENT_KEY)
        return _serve(name, group, kind, profile, start(name))
    except (EdgepackError, KeyboardInterrupt):
        _end(name)
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _serve(name: str, group: str, kind: BoardKind, profile: str, server: Server) -> Target:
    """Record a server that was started; returns when it has run a command."""
    board = Record(
        name=name,
        group=group,
        kind=kind,
        profile=profile,
        port=server.port,
        user=server.user,
        pid=server.pid,
        born=server.born,
    )
    record.write(board)
    target = record.target_of(board)
    ready.wait(target, lambda: processes.runs(server.pid, server.born), _log(name), _PATIENCE[kind])
    record.enlist(target)
    return target


def _machine(name: str) -> Record:
    board = record.read(name)
    if board is None or board.kind != "machine":
        raise UsageError(f"{name!r} is no machine board", advice=f"edgepack board up {name} --kind machine")
    return board


def _starter(kind: BoardKind, profile: str, progress: Progress) -> Start:
    """How a board of that kind is started, after what all such boards share is in place."""
    match kind:
        case "loopback":
            return launch.start_loopback
        case "emulated":
            root = launch.prepare_emulated(profile, progress)
            return lambda name: launch.start_emulated(name, profile, root, progress)
        case "machine":
            image = machine.prepare(profile, progress)
            return lambda name: machine.start(name, profile, image)
        case _:
            assert_never(kind)


def _end(name: str) -> None:
    """End every process of the board; its files stay."""
    if known := _read_or_none(name):
        # An emulated board's first process is sshd, whose sessions would outlive a polite end by their own grace.
        processes.end(known.pid, known.born, grace=2.0 if known.kind == "loopback" else 0.0)
    processes.end_marked(str(places.folder(name)))


def _read_or_none(name: str) -> Record | None:
    """A broken record must not keep a board from being ended: its processes are found by their mark."""
    try:
        return record.read(name)
    except InputError:
        return None


def _group(name: str) -> str:
    known = _read_or_none(name)
    return known.group if known else ""


def _log(name: str) -> Path:
    return places.folder(name) / places.LOG
