"""The options of `edgepack bench`, and what is printed of its passes: the verdict before the numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgepack.cli import benching, measured, run
from edgepack.errors import UsageError
from edgepack.report import ColdStart, Comparison, Energy, Minute, Operator, Pair, Report, SweepPoint, Validity

MakeReport = Callable[..., Report]


@pytest.mark.parametrize(("text", "seconds"), [("", 0), ("90", 90), ("90s", 90), ("10m", 600), ("0.5h", 1800)])
def test_a_time_is_seconds_minutes_or_hours(text: str, seconds: float) -> None:
    assert benching._seconds(text) == seconds


@pytest.mark.parametrize("text", ["ten", "10 m", "-5m", "m", "1d"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not a time") as error:
        benching._seconds(text)
    assert "10m" in error.value.expected


def test_cores_are_numbers() -> None:
    assert benching._cores("") == ()
    assert benching._cores("2,3") == (2, 3)
    with pytest.raises(UsageError, match="not a list of cores"):
        benching._cores("2-3")


def test_the_verdict_comes_before_any_number(make_report: MakeReport, capsys: pytest.CaptureFixture[str]) -> None:
    validity = Validity("suspect", ("the board was busy",), ("busy",))
    report = msgspec.structs.replace(
        make_report(),
        validity=validity,
        sweep=(
            SweepPoint(
                threads=1, p50_ns=400, p90_ns=500, interval_ns=(390, 410), throughput_per_s=2.5e6, verdict="valid"
            ),
        ),
        sustained=(Minute(minute=0, p50_ns=5_000_000, p90_ns=6_000_000, count=7, temperature_c=61.4, mhz=(1500, 600)),),
        cold=ColdStart(import_ns=410_000_000, load_ns=3_300_000, first_ns=900_000, page_cache="cold"),
        ops=(Operator(name="conv1", kind="Conv", ns=2_500_000, share=0.5, calls=1),),
        energy=Energy(source="pmic", joules_per_inference=0.0125, watts=2.5),
    )
    measured.print_all([report])
    said = capsys.readouterr().out
    table = said.index("p50 ms")
    assert said.index("verdict") < table
    for shown in (
        "suspect",
        "the board was busy",
        "2500000",
        "61",
        "1500",
        "page cache cold",
        "conv1",
        "50.0%",
        "12.5 mJ",
    ):
        assert shown in said


def test_a_pair_is_two_reports_and_a_comparison_and_a_regression_is_exit_4(
    make_report: MakeReport, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    comparison = Comparison(
        before="a",
        after="b",
        ratio=1.2,
        interval=(1.1, 1.3),
        p90_ratio=1.2,
        margin=0.05,
        verdict="slower",
        regression=True,
        excluded=False,
        validity="valid",
        reasons=(),
    )
    pair = Pair((make_report(), make_report(seed=1)), comparison)
    with pytest.raises(typer.Exit) as ended:
        measured.show_pairs([pair], json=True)
    assert ended.value.exit_code == 4
    document = msgspec.json.decode(capsys.readouterr().out)
    assert set(document) == {"reports", "comparison"}
    assert len(document["reports"]) == 2
    same = msgspec.structs.replace(pair, comparison=msgspec.structs.replace(comparison, regression=False))
    measured.show_pairs([same], json=False)
    assert "1.200 (95 % interval 1.100 … 1.300): slower" in capsys.readouterr().out


WRONG = [
    (["--duration", "4"], "--duration belongs to --scenario"),
    (["--anyway"], "--anyway belongs to --baseline"),
    (["--margin", "0.1"], "--margin to --baseline or --ab"),
    (["--margin", "-1", "--baseline", "last"], "--margin"),
    (["--ab", "a", "b", "--processes", "1"], "--ab needs pairs of processes"),
    (["--seconds", "0"], "--seconds"),
    (["--cool-to", "-5"], "--cool-to"),
    (["--part", "0.5"], "--part and --metric belong to --accuracy"),
]


@pytest.mark.parametrize(("options", "said"), WRONG)
def test_what_makes_no_sense_together_is_said_before_a_board_is_asked(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "nothing.edgepack", "nowhere", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_baseline_s_file_is_read_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "old.json"
    broken.write_text('{"schema": "edgepack.report/1"}')
    assert run(["bench", "nothing.edgepack", "nowhere", "--baseline", str(broken)]) == 3
    assert f"{broken}: not a report" in capsys.readouterr().err


def test_who_interrupts_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgepack.catalog.find_targets", interrupted)
    assert run(["bench", "nothing.edgepack", "nowhere"]) == 130
    assert capsys.readouterr().err.endswith("edgepack: interrupted\n")
