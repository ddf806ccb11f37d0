"""Nothing of a framework's chatter reaches standard output, from Python, from a logger or from C."""

from __future__ import annotations

import subprocess
import sys

CHATTER = """
import ctypes, logging, os, sys, warnings
from edgepack.quiet import quiet
libc = ctypes.CDLL(None)
print("before")
with quiet():
    print("python")
    libc.printf(b"c\\n")
    os.write(1, b"descriptor")
    logging.getLogger("x").warning("logger")
    warnings.warn("warning")
    with quiet():
        print("nested", file=sys.stderr)
    {body}
print("after")
"""


def _run(body: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", CHATTER.format(body=body)], capture_output=True, text=True, env=env
    )


def test_only_what_is_outside_is_seen() -> None:
    run = _run("pass")
    assert (run.returncode, run.stdout, run.stderr) == (0, "before\nafter\n", "")


def test_an_error_passes_through_and_takes_no_chatter_along() -> None:
    run = _run("raise SystemExit(3)")
    assert (run.returncode, run.stdout, run.stderr) == (3, "before\n", "")


def test_debug_shows_the_tail_when_it_failed() -> None:
    run = _run("raise SystemExit(3)", EDGEPACK_DEBUG="1")
    assert run.stdout == "before\n"
    for word in ("python", "descriptor", "logger"):
        assert word in run.stderr
