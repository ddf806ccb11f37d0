"""The processes of a board: told apart from strangers that got the same id, and ended for sure."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

MARK = "EDGEPACK_BOARD"

_PROC = Path("/proc")


def birth(pid: int) -> str:
    """When the process started, in the kernel's ticks since boot: with the id it names one process.

    Empty where it does not run (a zombie does not) or where the system has no /proc; ids alone must serve there.
    """
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def child_of(pid: int) -> int:
    """The first child of a process, 0 where it has none (Linux only)."""
    for entry in _PROC.glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:  # gone since it was listed
            continue
        if int(parent) == pid:
            return int(entry.parent.name)
    return 0


def runs(pid: int, born: str) -> bool:
    """Whether the process that had `pid` when it was recorded still runs."""
    if pid <= 0:
        return False
    if _PROC.joinpath("self/stat").exists():
        return birth(pid) == born != ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def end(pid: int, born: str, grace: float = 2.0) -> None:
    """Ask the process to end, insist after `grace` seconds, and return when it is gone."""
    for sign, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        if not runs(pid, born):
            break
        _send(pid, sign)
        _await_end(pid, born, patience)
    _reap(pid)


def end_marked(mark: str) -> tuple[int, ...]:
    """Kill every process whose environment says that it belongs to the board `mark`; their ids.

    A command that left its process group, or outlived a killed server, is found this way (Linux only).
    """
    ended: list[int] = []
    quiet = 0
    for _ in range(50):  # a process that forks while it is looked for is found the next time round
        found = marked(mark)
        # One that is just becoming another program shows no environment for a moment: none must be seen twice.
        quiet = 0 if found else quiet + 1
        if quiet == 2:
            break
        for pid in found:
            _send(pid, signal.SIGKILL)
        ended += found
        time.sleep(0.01)
    return tuple(dict.fromkeys(ended))


def marked(mark: str) -> tuple[int, ...]:
    wanted = f"{MARK}={mark}".encode()
    found: list[int] = []
    for entry in _PROC.glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        try:
            environment = entry.read_bytes().split(b"\0")
        except OSError:  # another user's, or gone
            continue
        if wanted in environment and pid != os.getpid() and birth(pid):
            found.append(pid)
    return tuple(found)


def _send(pid: int, sign: signal.Signals) -> None:
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return


def _await_end(pid: int, born: str, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while runs(pid, born) and time.monotonic() < limit:
        _reap(pid)
        time.sleep(0.01)


def _reap(pid: int) -> None:
    """Where the board was started by this very process its end must be collected, else its id lingers."""
    if pid <= 0:
        return
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
