"""Exports are read by the tools they are for."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyperf
import pytest

from edgepack.cli import run
from edgepack.errors import InputError
from edgepack.exports import export
from edgepack.report import Report

VARIANT = "digits.rpi4.w8a8.tflite"
MakeReport = Callable[..., Report]


def _write(folder: Path, name: str, report: Report) -> Path:
    path = folder / name
    path.write_text(export(report, "pyperf"))
    return path


def test_pyperf_reads_every_sample_and_compares_two_runs(tmp_path: Path, make_report: MakeReport) -> None:
    before = _write(tmp_path, "before.json", make_report(5.0))
    after = _write(tmp_path, "after.json", make_report(6.0, seed=1))
    (benchmark,) = pyperf.BenchmarkSuite.load(str(before)).get_benchmarks()
    assert benchmark.get_name() == VARIANT
    wanted = [sample / 1e9 for process in make_report(5.0).processes for sample in process.samples_ns]
    assert list(benchmark.get_values()) == pytest.approx(wanted)
    compare = [sys.executable, "-m", "pyperf", "compare_to", str(before), str(after)]
    said = subprocess.run(compare, capture_output=True, text=True, check=True).stdout
    assert "1.2" in said
    assert "slower" in said
    check = [sys.executable, "-m", "pyperf", "check", str(before)]
    assert "seems to be stable" in subprocess.run(check, capture_output=True, text=True, check=True).stdout


def _of_google_benchmark(tmp_path: Path) -> dict[str, Any]:
    """What the real library writes."""
    out = tmp_path / "real.json"
    program = (
        "import google_benchmark as b\n"
        "@b.register\n@b.option.repetitions(2)\n"
        "def nothing(state):\n    while state:\n        pass\n"
        f"b.main(['x', '--benchmark_out={out}', '--benchmark_min_time=0.001s'])"
    )
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    real: dict[str, Any] = json.loads(out.read_text())
    return real


def test_google_benchmark_s_own_fields_are_all_there_with_its_types(tmp_path: Path, make_report: MakeReport) -> None:
    real = _of_google_benchmark(tmp_path)
    ours = json.loads(export(make_report(), "google-benchmark"))
    assert set(real["context"]) - {"load_avg", "aslr_enabled"} <= set(ours["context"])
    assert ours["context"]["json_schema_version"] == real["context"]["json_schema_version"]
    for kind in ("iteration", "aggregate"):
        (theirs, *_), (mine, *_) = (
            [one for one in document["benchmarks"] if one["run_type"] == kind] for document in (real, ours)
        )
        assert set(theirs) <= set(mine)
        assert {key: type(value) for key, value in theirs.items()} == {key: type(mine[key]) for key in theirs}
    means = [one["real_time"] for one in ours["benchmarks"] if one["run_type"] == "iteration"]
    assert means == [sum(process.samples_ns) / 60 for process in make_report().processes]
    assert [one["aggregate_name"] for one in ours["benchmarks"][5:]] == ["mean", "median", "stddev", "cv"]


def test_a_trace_has_a_process_a_process_and_no_overlaps(make_report: MakeReport) -> None:
    events = json.loads(export(make_report(), "chrome-trace"))["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["pid"] for event in spans} == {1, 2, 3, 4, 5, 6}
    assert sum(event["name"] == "inference" for event in spans) == 5 * 60
    for first, second in pairwise(spans):
        assert second["ts"] >= first["ts"] + first["dur"] - 1e-3
    heats = [event["args"]["°C"] for event in events if event["ph"] == "C" and event["name"].startswith("temp")]
    assert heats == [45.0, 46.5] * 5
    assert [event["name"] for event in spans if event["pid"] == 6] == ["conv_1", "dense"]


def test_node_data_is_as_model_explorer_has_it(make_report: MakeReport) -> None:
    document = json.loads(export(make_report(), "model-explorer"))
    assert document["results"] == {"conv_1": {"value": 3_000_000}, "dense": {"value": 2_000_000}}
    assert [stop["stop"] for stop in document["gradient"]] == [0, 1]
    with pytest.raises(InputError, match="no operators") as error:
        export(make_report(ops=()), "model-explorer")
    assert "--ops" in error.value.advice


def test_csv_has_a_row_a_time(make_report: MakeReport) -> None:
    rows = list(csv.DictReader(io.StringIO(export(make_report(), "csv"))))
    assert len(rows) == 5 * (3 + 5 + 60)
    samples = [row for row in rows if row["phase"] == "sample" and row["process"] == "2"]
    assert [int(row["ns"]) for row in samples] == list(make_report().processes[1].samples_ns)
    assert (samples[29]["temperature_c"], samples[30]["temperature_c"], samples[30]["mhz"]) == (
        "45",
        "46.5",
        "1500 1500",
    )


def test_the_command_writes_a_file_or_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_report: MakeReport
) -> None:
    import msgspec

    report = tmp_path / "report.json"
    report.write_bytes(msgspec.json.encode(make_report()))
    assert run(["export", str(report), "--to", "csv", "-o", str(tmp_path / "out.csv")]) == 0
    assert run(["export", str(report), "--to", "csv"]) == 0
    assert capsys.readouterr().out == (tmp_path / "out.csv").read_text()
    assert run(["export", str(report), "--to", "xml"]) == 2
    assert run(["export", str(tmp_path / "none.json"), "--to", "csv"]) == 3
