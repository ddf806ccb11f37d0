"""The live view of a benchmark: what it says, and that a terminal shows it and a pipe does not."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

from edgepack.cli.live import Heard, row, so_far, sparkline
from edgepack.protocol import Beat

SCRIPT = """
import sys, time
from edgepack.cli.live import watching
from edgepack.protocol import Beat
from edgepack.target import Target
with watching([Target(name="kitchen", host="kitchen.local", profile="rpi4")]) as (progress, listener):
    with progress.step("bench kitchen"):
        for block in range(8 if listener else 0):
            listener(Beat(target="kitchen", stage="timing", process=2, processes=5, block=block, samples=20 * block,
                          p50_ns=4_210_000 + 10_000 * (block % 3), temperature_c=48.5, mhz=(1500, 1500)))
            time.sleep(0.15)
    progress.warn("it was [warm]")
print("document")
"""


def a_beat(**given: object) -> Beat:
    return Beat(**{"target": "kitchen", "stage": "timing", "process": 1, "processes": 5, **given})  # type: ignore[arg-type]


def test_a_median_so_far_has_an_interval_from_six_blocks_on() -> None:
    assert so_far([]) == ""
    assert so_far([4_210_000] * 5) == "4.21 ms"
    assert so_far([4_200_000, 4_210_000, 4_220_000, 4_230_000, 4_240_000, 4_250_000]) == "4.22 ms (4.2 … 4.25)"
    assert so_far([52_000]) == "52 µs"


def test_blocks_are_drawn_and_noise_is_flat() -> None:
    assert sparkline([]) == ""
    assert sparkline([1000, 1001, 1002]) == "▁▁▁"
    assert sparkline([1000, 1500, 2000]) == "▁▅█"


def test_a_pass_of_its_own_begins_with_no_median() -> None:
    heard = Heard()
    for beat in (a_beat(p50_ns=10), a_beat(p50_ns=12, process=2), a_beat(stage="starting", process=3)):
        heard = heard.after(beat)
    assert heard.medians == (10, 12)
    assert heard.after(a_beat(stage="sweep", p50_ns=5)).medians == (5,)


def test_a_line_says_nothing_that_the_board_does_not_tell() -> None:
    assert row("kitchen", Heard()) == ("kitchen", "", "connecting", "", "", "", "", "")
    heard = Heard().after(a_beat(p50_ns=4_210_000, samples=20))
    assert row("kitchen", heard) == ("kitchen", "1/5", "timing", "20", "4.21 ms", "", "", "▁")


def test_a_terminal_shows_it_live_and_is_left_clean(tmp_path: Path) -> None:
    out = tmp_path / "out"
    master, terminal = pty.openpty()
    with out.open("wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdin=terminal, stdout=file, stderr=terminal,
            env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "110"},
        )  # fmt: skip
    os.close(terminal)
    seen = _read(master, running)
    assert running.wait(30) == 0
    assert out.read_text() == "document\n"  # nothing of it on standard output
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    for shown in (
        "p50 so far",
        "2/5",
        "timing",
        "4.21 ms",
        "(4.21 … 4.23)",
        "48.5",
        "1500",
        "✓ bench kitchen",
        "it was [warm]",
    ):
        assert shown in plain, shown
    assert seen.rindex("\x1b[?25h") > seen.rindex("p50 so far")  # the cursor is back
    assert "p50 so far" not in plain[plain.rindex("it was [warm]") :].split("\r\n")[-1]


def _read(master: int, running: subprocess.Popen[bytes]) -> str:
    """What came out of the terminal until its other end closed, or a minute passed."""
    data, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], 0.5)
        if not ready:
            if running.poll() is not None:
                break
            continue
        try:
            more = os.read(master, 65536)
        except OSError:  # Linux says EIO where the other end is closed
            break
        if not more:
            break
        data += more
    os.close(master)
    return data.decode()


def test_a_pipe_gets_lines_and_no_live_view() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert done.stdout == "document\n"
    assert re.fullmatch(r"bench kitchen \(\d\.\d s\)\nwarning: it was \[warm\]\n", done.stderr)
