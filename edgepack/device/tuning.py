"""What a benchmark changes on a board, and how it comes back: the CPU governor, written down before it is touched.

Three ways lead back, so that a kill at any moment ends in the governor that was there: the agent itself; a small process that
waits for the agent to die; and, where both were killed, the next agent that does anything on this board.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from .faults import Fault

JOURNAL = "tuning.json"
_GOVERNOR = re.compile(r"/.*/cpufreq/scaling_governor")
_BOOT = (
    "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).watch(sys.argv[3])"
)


@contextlib.contextmanager
def governor(root: str, wanted: str, tree: str = "/") -> Iterator[None]:
    """Run the CPUs under another governor; under the one that was there again when this ends, however it ends.

    wanted: empty changes nothing. Raises Fault where the kernel has no such governor, this user may not set it, or another
    benchmark already has.
    """
    if not wanted:
        yield
        return
    paths = _paths(tree)
    _ensure_known(paths, wanted)
    if live(root):
        raise Fault(
            "board", "another benchmark has changed the governor of this board", advice="run this when it is done"
        )
    before = {path: _read(path) for path in paths}
    _write_journal(root, {"pid": os.getpid(), "started": _started(os.getpid()), "governors": before})
    with _watcher(root):
        try:
            for path in paths:
                _set(path, wanted)
            yield
        finally:
            restore(root)


def restore_if_left(root: str) -> None:
    """Undo what a benchmark that is no more alive left changed: every agent does this first."""
    if os.path.exists(os.path.join(root, JOURNAL)) and not live(root):
        restore(root)


def live(root: str) -> bool:
    """Whether the benchmark that wrote the journal still runs. A process of another start is another process."""
    journal = _journal(root)
    return bool(journal) and journal.get("started") == _started(int(journal.get("pid", 0)))


def restore(root: str) -> None:
    """Set what the journal holds and forget it. What cannot be written stays in it, for somebody who may."""
    path = os.path.join(root, JOURNAL)
    left = {}
    for place, was in _journal(root).get("governors", {}).items():
        if not _GOVERNOR.fullmatch(place) or ".." in place:
            continue  # whoever wrote this was no agent
        try:
            _write(place, was)
        except FileNotFoundError:
            continue
        except OSError:
            left[place] = was
    with contextlib.suppress(FileNotFoundError):
        if left:
            _write_journal(root, {"pid": 0, "started": "", "governors": left})
        else:
            os.unlink(path)


def watch(root: str) -> None:
    """Wait until whoever holds the other end of standard input is gone, then put back what is still changed."""
    while os.read(0, 4096):
        pass
    restore(root)


def _watcher(root: str) -> Any:
    """The process that waits, in a session of its own; leaving the block lets it see that nothing is left to do."""
    where = str(Path(__file__).parents[len((__package__ or "").split("."))])
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _BOOT, where, __name__, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _paths(tree: str) -> Any:
    found = sorted(
        glob.glob(os.path.join(glob.escape(tree), "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    )
    if not found:
        raise Fault(
            "board",
            "this board lets nobody choose a CPU governor",
            expected="/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            advice="measure without --governor",
        )
    return found


def _ensure_known(paths: Any, wanted: str) -> None:
    for path in paths:
        known = _read(os.path.join(os.path.dirname(path), "scaling_available_governors")).split()
        if wanted not in known:
            raise Fault(
                "input",
                f"the kernel of this board has no governor {wanted!r}",
                expected=f"one of {', '.join(known)}"
                if known
                else "a kernel that lists its governors; this one lists none",
                advice="measure without --governor" if not known else "",
            )
        if not os.access(path, os.W_OK):
            raise Fault(
                "board",
                f"this user may not change {path}",
                expected="root, or a user who may write there",
                advice="measure without --governor, or log in as root",
            )


def _set(path: str, wanted: str) -> None:
    _write(path, wanted)
    if _read(path) != wanted:
        raise Fault(
            "board",
            f"{path} says {_read(path)!r} after {wanted!r} was written to it",
            advice="measure without --governor",
        )


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_TRUNC)  # as `echo >` does, but never creating what is not there
    try:
        os.write(handle, text.encode())
    finally:
        os.close(handle)


def _journal(root: str) -> Dict[str, Any]:
    try:
        with open(os.path.join(root, JOURNAL)) as file:
            read = json.load(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _write_journal(root: str, journal: Dict[str, Any]) -> None:
    from . import store

    os.makedirs(root, exist_ok=True)
    store.write_json(os.path.join(root, JOURNAL), journal)


def _started(pid: int) -> Optional[str]:
    """When a process was started, in the kernel's ticks; None where there is none, or only its remains."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{_boot_id()} {fields[19]}"


def _boot_id() -> str:
    return _read("/proc/sys/kernel/random/boot_id")
