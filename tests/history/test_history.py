"""Reports are kept, found again, and compared only with what they are comparable with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgepack import comparable, history
from edgepack.cli import run
from edgepack.errors import InputError
from edgepack.report import BenchProtocol, Conditions, Report, RuntimeRef, Validity

VARIANT = "digits.rpi4.w8a8.tflite"
MakeReport = Callable[..., Report]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))


@pytest.fixture
def one_run(make_report: MakeReport) -> MakeReport:
    return lambda day, level=5.0, **changes: make_report(
        level, seed=day, started=f"2026-03-{day:02}T05:06:07Z", **changes
    )


def _governed(report: Report, governor: str) -> Report:
    state = Conditions(governor=governor)
    return msgspec.structs.replace(
        report, run_context=msgspec.structs.replace(report.run_context, before=state, after=state)
    )


def test_what_is_kept_is_found_in_order_and_once(one_run: MakeReport) -> None:
    reports = [one_run(day) for day in (3, 1, 2)]
    for report in (*reports, reports[0]):
        history.keep(report)
    assert history.recall("digits", "kitchen", pytest.fail) == tuple(
        sorted(reports, key=lambda one: one.run_context.started)
    )
    assert history.recall("digits", "garage", pytest.fail) == ()


def test_a_file_that_is_no_report_is_named_and_hides_no_other(
    one_run: MakeReport, capfd: pytest.CaptureFixture[str]
) -> None:
    kept, other = one_run(2), one_run(3)
    path = history.keep(one_run(1))
    for report in (kept, other):
        history.keep(report)
    path.write_text("{}")
    heard: list[str] = []
    assert history.recall("digits", "kitchen", heard.append) == (kept, other)
    assert history.everything(heard.append) == (kept, other)
    assert history.baseline("last", other, heard.append) == kept
    assert len(heard) == 3 and all(str(path) in one and "delete the file" in one for one in heard)
    assert run(["bench-history", "digits", "kitchen"]) == 0
    assert str(path) in capfd.readouterr().err


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("other runtimes", {"runtime": RuntimeRef("onnxruntime", "1.20", 1, None)}),
    ("other numbers of threads", {"runtime": RuntimeRef("litert", "2.1.0", 4, None)}),
    ("other inputs", {"protocol": BenchProtocol(inputs="seeded")}),
    ("other batch sizes", {"protocol": BenchProtocol(batch=4)}),
    ("pinned to other cores", {"protocol": BenchProtocol(pin=(3,))}),
    (
        "other CPUs",
        {"device": {"cpu_model": "Cortex-A76", "machine": "aarch64", "cores": 4, "board_model": "Raspberry Pi 4"}},
    ),
]


@pytest.mark.parametrize(("what", "change"), CHANGES)
def test_what_differs_is_said(what: str, change: dict[str, Any], make_report: MakeReport) -> None:
    (only,) = comparable.differences(make_report(), make_report(seed=1, **change))
    assert only.startswith(what)


def test_what_is_compared_on_purpose_is_no_difference(make_report: MakeReport) -> None:
    newer = make_report(
        version="2.0.0", runtime=RuntimeRef("litert", "2.2.0", 1, None), variant="digits.rpi4.fp32.tflite"
    )
    assert comparable.differences(make_report(), newer) == ()
    assert len(comparable.differences(make_report(), _governed(make_report(), "powersave"))) == 2  # before and after


def test_steps_are_shown_where_they_are_among_comparable_runs(
    capsys: pytest.CaptureFixture[str], one_run: MakeReport
) -> None:
    for day in range(1, 13):
        history.keep(one_run(day, 5.0 if day < 7 else 6.0, version="1.0.0" if day < 7 else "1.1.0"))
        history.keep(_governed(one_run(day, 9.0), "powersave"))
    history.keep(one_run(13, 50.0, validity=Validity("invalid", ("throttled",))))
    assert run(["bench-history", "digits", "kitchen", "--json"]) == 0
    second, first = sorted(json.loads(capsys.readouterr().out)["series"], key=lambda one: len(one["points"]))
    steps = [(point["version"], point["step"]) for point in first["points"] if point["step"]]
    assert first["counted"] == len(second["points"]) == 12
    assert len(first["points"]) == 13
    assert steps == [("1.1.0", pytest.approx(1.2, rel=0.02))]
    assert not any(point["step"] for point in second["points"])
    assert run(["bench-history", "digits", "kitchen"]) == 0
    assert "step 1.20 ×" in capsys.readouterr().out
    assert run(["bench-history", "digits", "garage"]) == 3


def test_a_baseline_is_the_last_comparable_run_a_version_or_a_file(tmp_path: Path, one_run: MakeReport) -> None:
    old, slow, new = one_run(1), _governed(one_run(2), "powersave"), one_run(3, version="2.0.0")
    with pytest.raises(InputError, match="no baseline"):
        history.baseline("last", new, pytest.fail)
    for report in (old, slow, new):
        history.keep(report)
    assert history.baseline("last", new, pytest.fail) == old
    assert history.baseline("1.0.0", new, pytest.fail) == old
    file = tmp_path / "other.json"
    file.write_bytes(msgspec.json.encode(slow))
    assert history.baseline(str(file), new, pytest.fail) == slow
    with pytest.raises(InputError, match=r"no baseline '3.0.0'") as error:
        history.baseline("3.0.0", new, pytest.fail)
    assert "1.0.0" in error.value.expected
    with pytest.raises(InputError, match="does not exist"):
        history.baseline(str(tmp_path / "none.json"), new, pytest.fail)
    with pytest.raises(InputError, match="no baseline"):
        history.baseline("last", msgspec.structs.replace(new, variant="digits.rpi4.fp32.tflite"), pytest.fail)
    assert new.variant == VARIANT


def test_compare_refuses_other_conditions_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make_report: MakeReport
) -> None:
    files = []
    for name, report in (
        ("a", make_report()),
        ("b", _governed(make_report(6.0, seed=1), "powersave")),
        ("c", make_report(6.0, 2)),
    ):
        files.append(str(tmp_path / f"{name}.json"))
        Path(files[-1]).write_bytes(msgspec.json.encode(report))
    assert run(["compare", files[0], files[1]]) == 3
    assert "other CPU governors before the run: performance and powersave" in capsys.readouterr().err
    assert run(["compare", files[0], files[1], "--anyway"]) == 4
    assert run(["compare", files[0], files[2]]) == 4
    assert run(["compare", files[0], files[2], "--margin", "0.3"]) == 0
