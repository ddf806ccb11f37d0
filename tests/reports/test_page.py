"""The page: complete, self-contained, the same bytes every time, and never a stand-in's latency as a device's."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest

from edgepack import stats
from edgepack.errors import UsageError
from edgepack.profile import Budget
from edgepack.report import Report
from edgepack.reports import Build, course_picture, latency_picture, packed, render, size_picture, standalone
from edgepack.variant import Built

pytestmark = pytest.mark.frameworks
MakeReport = Callable[..., Report]
VOID = {"meta", "br", "img", "link"}


class Reader(HTMLParser):
    """Every tag must be closed by its own; text is gathered."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def text_of(page: str) -> str:
    return " ".join("".join(read(page).texts).split())


def test_a_page_shows_everything_and_loads_nothing(build: Build, make_report: MakeReport) -> None:
    page = render([make_report(passes=True)], build)
    text = text_of(page)
    for one in build.judged:
        assert one.reason in text or one.status != "rejected"
    for shown in (
        "digits", "0.9822", "nothing speaks against", "Raspberry Pi 4 Model B", "48.3 °C", "ondemand", "◇ the source",
        "95 % interval", "Latency over time", "Distribution", "Under sustained load", "Threads", "Operators", "Cold start",
        "mJ", "DEPTHWISE_CONV_2D", "files not in memory",
    ):  # fmt: skip
        assert shown in text, shown
    addresses = [
        value for name, value in read(page).attributes if name in ("src", "href", "xlink:href", "style", "data")
    ]
    assert not [value for value in addresses if value and re.search(r"https?:|//|url\((?!#)", value)]
    assert "@import" not in page and "<script" not in page
    assert page.count("<svg") == 2 * 6  # each for a wide and for a narrow page
    assert len(page.encode()) < 3_000_000


def test_the_same_values_give_the_same_bytes(build: Build, make_report: MakeReport) -> None:
    pages = {render([make_report(processes=2)], build) for _ in range(2)}
    assert len(pages) == 1
    assert "2026-01-02" in pages.pop()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"board": "emulated"}, "Invalid: not a device latency"),
        ({"trace": "throttled"}, "Invalid: do not rely on these latencies"),
        ({"trace": "bimodal", "samples": 200}, "Suspect: take these latencies with care"),
    ],
)
def test_what_is_not_valid_is_said_before_any_number(
    make_report: MakeReport, given: dict[str, object], said: str
) -> None:
    report = make_report(**given)
    page = render([report])
    text = text_of(page)
    before = text[: text.index(said)]
    assert not re.search(r"\d+(\.\d+)? (ms|µs|MB|°C)", before)
    for reason in report.validity.reasons:
        assert text.index(reason) < text.index("median on ")
    doubt = {"emulated": "not a device latency", "throttled": "not valid"}.get(
        str(given.get("board", given.get("trace")))
    )
    assert doubt is None or page.count(f">{doubt}</text>") == 4  # in every picture of latencies, wherever it is shown


def test_a_stand_in_s_latency_is_never_shown_as_a_device_s(make_report: MakeReport) -> None:
    text = text_of(render([make_report("emulated")]))
    assert "an emulated board: its latencies say nothing about a device" in text
    assert "no device’s latency" in text
    assert "nothing speaks against" not in text
    loopback = text_of(render([make_report("loopback")]))
    assert "take these latencies with care" in loopback
    assert "this machine (a loopback board)" in loopback


def test_several_runs_begin_with_a_table_of_their_verdicts(build: Build, make_report: MakeReport) -> None:
    replace = msgspec.structs.replace
    steady, throttled = make_report(), make_report(trace="throttled", level=9e5)
    other = replace(make_report(level=2.6e5), variant="digits.rpi4.fp16-s50.tflite")
    page = render([steady, throttled, other], build)
    text = text_of(page)
    assert "3 runs, 2 valid, 1 invalid: do not rely on all of them" in text
    assert (
        set(re.findall(r'href="#(run-\d)"', page))
        == set(re.findall(r'id="(run-\d)"', page))
        == {"run-1", "run-2", "run-3"}
    )
    front = page[page.index("Accuracy against latency") : page.index("Accuracy against size")]
    assert "not valid" not in front  # the valid run of two speaks for its variant


def test_two_releases_in_turns_are_compared_pair_by_pair(make_report: MakeReport) -> None:
    a, b = make_report(processes=4), make_report(processes=4, level=3.9e5)
    comparison = stats.compare(a, b, 0.05)
    page = render([a, b], comparisons=[comparison], interleaved=True)
    text = text_of(page)
    assert "is faster: 0.929 × the median" in text
    for row in ("pair 1", "pair 4", "together"):
        assert page.count(f">{row}</text>") == 2
    assert "pair 1" not in render([a, b], comparisons=[comparison])


def test_a_bundle_alone_shows_what_it_knows(build: Build) -> None:
    text = text_of(render([], packed(build.manifest)))
    assert "4 variants are in the bundle." in text and "fp16-s50 tflite" in text
    assert "rejected, and why" not in text and "◇ the source" not in text
    with pytest.raises(UsageError, match="nothing to report"):
        render([])


def test_text_from_outside_stays_text(build: Build, make_report: MakeReport) -> None:
    evil = '"><img src=x onerror=alert(1)>&<b>'
    replace = msgspec.structs.replace
    report = make_report(passes=True)
    report = replace(
        report,
        device={**report.device, "board_model": evil, "os": evil},
        notes=(evil,),
        variant=evil,
        run_context=replace(report.run_context, target=evil),
        runtime=replace(report.runtime, version=evil),
        ops=tuple(replace(op, name=evil, kind=evil) for op in report.ops),
    )
    dirty = replace(build.manifest, labels=(evil,), metric=evil, created=evil)
    judged = (replace(build.judged[0], reason=evil), *build.judged[1:])
    page = render([report], Build(dirty, judged, 0.9778, 80_000), [stats.compare(report, report, 0.05)])
    assert "<img" not in page
    assert "<script" not in page
    assert "".join(read(page).texts).count(evil) >= 6


def test_without_scores_the_picture_shows_sqnr(build: Build) -> None:
    replace = msgspec.structs.replace
    unscored = tuple(
        replace(j, built=replace(j.built, score=None, drop=None)) if isinstance(j.built, Built) else j
        for j in build.judged
    )
    page = render([], Build(replace(build.manifest, baseline=None, metric=""), unscored, None, 80_000))
    assert "SQNR against the source, dB" in page
    assert page.count("<svg") == 2


def test_a_build_without_any_usable_variant_is_still_shown(build: Build) -> None:
    text = text_of(render([], Build(build.manifest, build.judged[-1:], 0.9778, 80_000)))
    assert "None met the budget." in text
    assert "the conversion succeeded and is wrong" in text


@pytest.mark.parametrize("level", [9e2, 3e6, 2e10])
def test_pictures_are_well_formed_at_any_scale(make_report: MakeReport, level: float) -> None:
    for draw in (latency_picture, course_picture):
        for processes in (1, 7):
            drawn = draw(make_report(level=level, processes=processes))
            for svg in (drawn.wide, drawn.narrow):
                root = ElementTree.fromstring(svg)
                assert root.tag.endswith("svg")
                colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
                assert not colours, f"colours that do not follow the page: {colours}"
                assert set(re.findall(r'"#([\w-]+)"', svg)) <= set(re.findall(r' id="([\w-]+)"', svg))


def test_a_report_of_before_has_no_blocks_and_is_still_shown(make_report: MakeReport) -> None:
    report = make_report()
    old = msgspec.structs.replace(
        report, processes=tuple(msgspec.structs.replace(one, blocks=()) for one in report.processes)
    )
    page = render([old])
    assert "The board did not tell its temperature and clock while it ran." in text_of(page)
    assert ">MHz</text>" not in page


def test_many_samples_stay_a_light_page(make_report: MakeReport) -> None:
    report = make_report(processes=5, samples=3000)
    drawn = course_picture(report)
    assert 2500 < len(re.findall(r"\nL ", drawn.wide)) < 5000
    assert len(drawn.wide) + len(drawn.narrow) < 250_000


def test_many_runs_stay_a_light_page(make_report: MakeReport) -> None:
    one = make_report(samples=40, passes=True)
    page = render([one] * 16)
    assert "16 runs, " in page and "up to 5 have all of them" in page
    assert page.count("<h3>Threads</h3>") == page.count("<h3>Operators</h3>") == 16  # as numbers
    assert "<figure>" not in page and len(page.encode()) < 3_000_000


def test_a_budget_far_from_every_score_takes_no_room(build: Build) -> None:
    def drawn(max_drop: float) -> str:
        manifest = msgspec.structs.replace(build.manifest, gates=Budget(max_drop=max_drop))
        return size_picture(Build(manifest, build.judged, 0.9778, 80_000)).wide

    svg = drawn(0.5)  # matplotlib's warnings are errors here
    assert "w8a8-s50 tflite" in svg and "budget" not in svg
    assert "budget" in drawn(0.003)


def test_every_variant_is_named_in_the_picture(build: Build) -> None:
    text = "".join(ElementTree.fromstring(size_picture(build).wide).itertext())
    for one in build.judged:
        if isinstance(one.built, Built):
            assert f"{one.built.precision}{'-s50' if one.built.sparsity else ''} {one.built.format}" in text


def test_a_picture_of_its_own_carries_its_colours(build: Build) -> None:
    svg = standalone(size_picture(build))
    ElementTree.fromstring(svg)
    assert "--ink" in svg
    assert "prefers-color-scheme: dark" in svg


def test_a_missing_matplotlib_is_named(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib") as error:
        render([], build)
    assert "edgepack[report]" in error.value.advice


def test_importing_reports_imports_no_matplotlib() -> None:
    code = "import sys, edgepack.reports; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
