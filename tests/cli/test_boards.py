"""`edgepack board` as people call it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack import boards
from edgepack.cli.progress import Plain

PROFILE = """schema = "edgepack.profile/1"
title = "The counters in the hall"
extends = "{base}"
[compress]
precisions = ["fp32"]
"""


@pytest.mark.board
def test_a_board_with_a_profile_of_one_s_own_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    (tmp_path / "hall.toml").write_text(PROFILE.format(base=boards.default_profile("loopback")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def edgepack(*words: str, cwd: Path) -> str:
        command = [sys.executable, "-m", "edgepack", *words, "--json"]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=60).stdout

    try:
        edgepack("board", "up", "hall", "--profile", "hall.toml", cwd=tmp_path)
        (found,) = json.loads(edgepack("target", "check", "hall", cwd=elsewhere))["targets"]
        assert found["facts"]["board"] == "loopback"
    finally:
        boards.down("hall", Plain())
