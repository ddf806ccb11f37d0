"""benchmarks/compression: its decisions, and one small run from the training to the verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from accounting import Cost, account  # noqa: E402
from compressing import judging  # noqa: E402
from compressing.judging import Row  # noqa: E402
from compressing.places import digest_of_reach  # noqa: E402


def row(title: str, who: str, right: np.ndarray, size: int, format: str = "onnx", sqnr_db: float = 20.0) -> Row:
    cost = Cost(1.0, 1.0, 100.0)
    return Row(title, title, who, format, "static", right, 0.0, 0.0, 1.0, sqnr_db, size, None, cost, 0.5)


def answers(right: int, of: int = 400) -> np.ndarray:
    return np.arange(of) < right


def test_the_noise_of_a_difference_comes_from_the_samples_on_which_two_files_differ() -> None:
    difference, noise = judging.paired(answers(380), answers(376))
    assert difference == pytest.approx(0.01)
    assert noise == pytest.approx(1.96 * np.sqrt(0.01 * 0.99 / 399), rel=1e-6)
    assert judging.paired(answers(380), answers(380)) == (0.0, 0.0)


def test_sqnr_in_decibels() -> None:
    signal = np.ones((10, 10))
    assert judging.sqnr(signal, signal * 1.1) == pytest.approx(20.0)
    assert judging.sqnr(signal, signal) == 200.0


def test_a_tie_needs_a_file_that_is_no_larger() -> None:
    peers = [row("defaults", "onnxruntime", answers(300), 90), row("per channel", "onnxruntime", answers(380), 100)]
    (met,) = judging.int8_bars([*peers, row("ours", "edgepack", answers(379), 100)])
    assert met.met is True and "per channel" in met.claim and "tie" in met.found
    (larger,) = judging.int8_bars([*peers, row("ours", "edgepack", answers(380), 101)])
    assert larger.met is False
    (worse,) = judging.int8_bars([*peers, row("ours", "edgepack", answers(350), 80)])
    assert worse.met is False and "worse" in worse.found


def test_formats_are_judged_apart_and_among_peers_that_tie_the_smallest_counts() -> None:
    rows = [
        row("large", "nncf", answers(381), 200),
        row("small", "olive", answers(380), 100),
        row("ours", "edgepack", answers(380), 150),
        row("lite", "ai-edge", answers(300), 50, "tflite"),
    ]
    (bar,) = judging.int8_bars(rows)
    assert "small" in bar.claim and bar.met is False


def test_a_limit_ends_a_process_and_its_cost_is_known(tmp_path: Path) -> None:
    forever = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert account(forever, tmp_path / "log", {}, tmp_path, 0.2).code == -9
    spent = account([sys.executable, "-c", "print(1); b = bytearray(60 << 20)"], tmp_path / "log", {}, tmp_path, 60)
    assert spent.code == 0 and (tmp_path / "log").read_text() == "1\n"
    assert spent.cost.peak > 60 and 0 < spent.cost.cpu <= spent.cost.wall + 0.5


def test_a_trained_net_is_kept_until_what_it_is_made_of_changes(tmp_path: Path) -> None:
    file = tmp_path / "nets.py"

    def digest_of(block: str, other: str) -> str:
        file.write_text(
            f"def block():\n    return {block}\ndef net():\n    return block()\ndef other():\n    return {other}\n"
        )
        return digest_of_reach(file, {"net"})

    before = digest_of("1", "1")
    assert digest_of("1", "2") == before == digest_of("1  # said otherwise", "1")
    assert digest_of("2", "1") != before


@pytest.mark.frameworks
def test_a_quick_run_gives_a_table_a_document_and_a_picture_and_is_kept(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    command = [sys.executable, str(BENCHMARKS / "compression"), "--quick", "--no-latency"]
    command += ["--json", str(tmp_path / "table.json"), "--picture", str(tmp_path / "picture.svg")]
    env = {**os.environ, "EDGEPACK_BENCHMARKS_CACHE": str(tmp_path / "cache")}
    first = subprocess.run(command, env=env, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    (document,) = json.loads((tmp_path / "table.json").read_text())
    assert document["failed"] == []
    rows = {found["method"]: found for found in document["rows"]}
    floating, defaults, ours = rows["float, ONNX"], rows["onnxruntime defaults"], rows["edgepack w8a8 onnx"]
    assert floating["score"] > 0.8
    assert ours["size_bytes"] < 0.4 * floating["size_bytes"]
    assert ours["sqnr_db"] > defaults["sqnr_db"] > 15
    assert abs(ours["score"] - floating["score"] + ours["drop"]) < 1e-9
    assert 0 < ours["import_s"] < ours["wall_s"]
    assert document["bars"][0]["met"] is True
    assert "edgepack w8a8 onnx" in first.stdout and "</svg>" in (tmp_path / "picture.svg").read_text()
    again = subprocess.run(command, env=env, capture_output=True, text=True)
    assert again.returncode == 0 and "…" not in again.stderr, "finished cells are kept"
    assert again.stdout == first.stdout
