"""The demo to its end, with a net that learns for moments only: what is real in it stays real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack import boards
from edgepack.cli import demo

BRIEFLY = """
import sys
from pathlib import Path
from edgepack.cli import demo, run
demo.PROJECT = Path(sys.argv[1])
sys.exit(run(["demo", "--board", "loopback"]))
"""


def shorten(file: Path, long: str, short: str) -> None:
    text = file.read_text()
    assert text.count(long) == 1, f"{file.name} no longer says {long!r}"
    file.write_text(text.replace(long, short))


@pytest.mark.frameworks
@pytest.mark.board
@pytest.mark.network
def test_the_demo_ends_with_a_report_and_a_second_run_trains_nothing(tmp_path: Path) -> None:
    project = shutil.copytree(demo.PROJECT, tmp_path / "project")
    shorten(project / "train.py", "epochs: int = 15", "epochs: int = 2")
    shorten(project / "edgepack.toml", "epochs = 20", "epochs = 1")
    command = [sys.executable, "-c", BRIEFLY, str(project)]
    first, second = (
        subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        for _ in range(2)
    )
    for done in (first, second):
        assert done.returncode == 0, done.stderr
        assert "w8a8-s50.tflite" in done.stdout and "rejected" in done.stdout
        assert "demo " in done.stdout and "suspect" in done.stdout  # measured, and not as a device
    assert "train a small" in first.stderr and "epoch 2/2" in first.stderr
    assert "train a small" not in second.stderr
    page = tmp_path / "demo-output/report.html"
    assert first.stdout.splitlines()[-1] == f"report: {page}"
    for chapter in ("Latency over time", "Distribution", "Accuracy against size", "What was rejected, and why"):
        assert f">{chapter}</h" in page.read_text()
    assert {path.name for path in page.parent.glob("*.edgepack")} == {
        f"digits-1.0.0-{profile}.edgepack" for profile in ("rpi4", boards.default_profile("loopback"))
    }
    assert demo.BOARD not in {board.name for board in boards.listing()}
