"""`edgepack report`: every document that `edgepack bench --json` prints becomes a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgepack import stats
from edgepack.cli import run
from edgepack.cli.reading import read_measured
from edgepack.digest import Digest, canonical_json
from edgepack.errors import InputError
from edgepack.report import BenchProtocol, BundleRef, Conditions, ProcessRun, Report, RunContext, RuntimeRef, Validity

pytestmark = pytest.mark.frameworks


def a_report(factor: float = 1.0, target: str = "kitchen") -> Report:
    runs = tuple(
        ProcessRun(
            import_ns=1, load_ns=1, first_ns=9_000_000, warm_ns=(), vmhwm_kb=5000,
            samples_ns=tuple(round(factor * (4_000_000 + 1000 * number + 700 * (index % 7))) for index in range(30)),
        )
        for number in range(3)
    )  # fmt: skip
    return Report(
        bundle=BundleRef("digits", "1.0.0", Digest("sha256:" + "ab" * 32)),
        variant="digits.rpi4.w8a8.tflite",
        runtime=RuntimeRef("litert", "2.3.0", 1, None),
        device={"board_model": "Raspberry Pi 4"},
        run_context=RunContext(
            target=target, started="2026-01-02T03:04:05Z", edgepack="0.1.0", before=Conditions(), after=Conditions()
        ),
        protocol=BenchProtocol(),
        processes=runs,
        summary=stats.summarize(runs),
        harness_overhead_ns=100,
        validity=Validity("suspect", ("it was warm",)),
    )


def write(path: Path, value: object) -> str:
    path.write_bytes(canonical_json(value))
    return str(path)


def test_one_run_and_several_become_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write(tmp_path / "a.json", a_report()), write(tmp_path / "b.json", a_report(1.3))
    page = tmp_path / "page.html"
    assert run(["report", first, "-o", str(page), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"page": str(page), "bytes": page.stat().st_size}
    assert "Suspect: take these latencies with care" in page.read_text()
    assert run(["report", first, second, "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    text = page.read_text()
    assert "2 runs, 2 suspect" in text and "is slower: 1.300 × the median" in text
    assert "pair 1" not in text  # they did not run in turns


def test_runs_of_two_boards_are_not_compared(tmp_path: Path) -> None:
    several = write(tmp_path / "both.json", {"reports": [a_report(), a_report(1.3, "garden")]})
    page = tmp_path / "page.html"
    assert run(["report", several, "-o", str(page)]) == 0
    assert "kitchen" in page.read_text() and "garden" in page.read_text()
    assert "Against each other" not in page.read_text()


def test_two_releases_in_turns_keep_their_comparison(tmp_path: Path) -> None:
    a, b = a_report(), a_report(0.5)
    comparison = stats.compare(a, b, 0.2)
    file = tmp_path / "ab.json"
    write(file, {"reports": [a, b], "comparison": comparison})
    found = read_measured(file)
    assert found.comparisons == (comparison,) and len(found.reports) == 2
    assert run(["report", str(file), "-o", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert "pair 3" in text and "slower by less than 20 %" in text


@pytest.mark.parametrize("content", ["", "[]", '{"reports": [{}]}', '{"schema": 1}', '{"reports": 3}'])
def test_what_is_no_report_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "no.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"no\.json"):
        read_measured(file)


def damaged(**changes: object) -> dict[str, object]:
    document: dict[str, object] = json.loads(canonical_json(a_report()))
    return {**document, **changes}


late = {**json.loads(canonical_json(a_report().processes[0])), "blocks": [{"start": -1, "at_ns": 0}]}
BROKEN = [
    (damaged(schema="edgepack.report/2"), "its schema is 'edgepack.report/2'"),
    (damaged(schema="other.tool/1"), "its schema is 'other.tool/1'"),
    (damaged(processes=[]), "it has no processes"),
    (damaged(device={"cores": "four"}), "device.cores: 'four', which a board does not say"),
    (damaged(device={"cpu_features": None}), "device.cpu_features: None"),
    (damaged(processes=[late]), "processes[0].blocks: they do not start at samples"),
    (damaged(variant=3), "`$.variant`"),
    ({"reports": [damaged(), damaged(processes=[])]}, "reports[1]: not a report"),
]


@pytest.mark.parametrize(("document", "said"), BROKEN)
def test_a_report_that_cannot_be_is_named_with_its_key(
    document: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = write(tmp_path / "good.json", a_report()), write(tmp_path / "bad.json", document)
    page = str(tmp_path / "page.html")
    for command in (["compare", good, bad], ["export", bad, "--to", "csv"], ["report", bad, "-o", page]):
        assert run(command) == 3
        error = capsys.readouterr().err
        assert bad in error and said in error and "try:" in error


def test_one_of_several_reports_has_to_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = write(tmp_path / "two.json", {"reports": [a_report(), a_report(1.0, "garden")]})
    assert run(["export", two, "--to", "csv"]) == 3
    error = capsys.readouterr().err
    assert "holds 2 reports" in error and "garden" in error and "--out FOLDER" in error


def test_pairs_of_several_boards_become_one_page(tmp_path: Path) -> None:
    pairs = [
        {"reports": [a, b], "comparison": stats.compare(a, b, 0.05)}
        for a, b in ((a_report(target=name), a_report(0.5, target=name)) for name in ("kitchen", "garden"))
    ]
    file = write(tmp_path / "pairs.json", {"pairs": pairs})
    assert run(["report", file, "-o", str(tmp_path / "page.html")]) == 0
    text = (tmp_path / "page.html").read_text()
    assert text.count("is faster: 0.500 × the median") == 2


def test_nothing_to_report_is_a_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "-o", str(tmp_path / "page.html")]) == 2
    assert "nothing to report" in capsys.readouterr().err
    assert not (tmp_path / "page.html").exists()
