"""The page: complete, self-contained, the same bytes every time, and never a stand-in's latency as a device's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from edgepack.errors import UsageError
from edgepack.manifest import Manifest
from edgepack.profile import Budget
from edgepack.report import Report
from edgepack.reports import course_picture, latency_picture, render, size_picture, standalone
from edgepack.variant import Built, Judged

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


def test_a_page_shows_everything_and_loads_nothing(
    manifest: Manifest, judged: tuple[Judged, ...], make_report: MakeReport
) -> None:
    page = render(manifest, judged, 0.9778, 80_000, [make_report()])
    if folder := os.environ.get("EDGEPACK_TEST_PAGES"):  # to be looked at
        Path(folder, "valid.html").write_text(page)
        Path(folder, "emulated.html").write_text(
            render(manifest, judged, 0.9778, 80_000, [make_report("emulated", 9e6, 2)])
        )
        Path(folder, "size.svg").write_text(standalone(size_picture(judged, 0.9778, 80_000, "top1", manifest.gates)))
    reader = read(page)
    text = " ".join("".join(reader.texts).split())
    for one in judged:
        assert one.reason in text or one.status != "rejected"
    for shown in (
        "digits",
        "0.9822",
        "Nothing speaks against",
        "Raspberry Pi 4 Model B",
        "48.3 °C",
        "ondemand",
        "◇ the source",
    ):
        assert shown in text
    addresses = [value for name, value in reader.attributes if name in ("src", "href", "xlink:href", "style", "data")]
    assert not [value for value in addresses if value and re.search(r"https?:|//|url\((?!#)", value)]
    assert "@import" not in page
    assert page.count("<svg") == 3


def test_the_same_values_give_the_same_bytes(
    manifest: Manifest, judged: tuple[Judged, ...], make_report: MakeReport
) -> None:
    pages = {render(manifest, judged, 0.9778, 80_000, [make_report()]) for _ in range(2)}
    assert len(pages) == 1
    assert "2026-01-02" in pages.pop()


def test_a_stand_in_s_latency_is_never_shown_as_a_device_s(
    manifest: Manifest, judged: tuple[Judged, ...], make_report: MakeReport
) -> None:
    text = "".join(read(render(manifest, judged, 0.9778, 80_000, [make_report("emulated")])).texts)
    assert "Not a device latency" in text
    assert "an emulated board: its latencies say nothing about a device" in text
    assert "no device's latency" in text
    assert "Nothing speaks against" not in text
    loopback = "".join(read(render(manifest, judged, 0.9778, 80_000, [make_report("loopback")])).texts)
    assert "Take these latencies with care" in loopback
    assert "this machine (a loopback board)" in loopback


def test_text_from_outside_stays_text(manifest: Manifest, judged: tuple[Judged, ...], make_report: MakeReport) -> None:
    evil = '"><img src=x onerror=alert(1)>&<b>'
    replace = msgspec.structs.replace
    report = make_report()
    report = replace(
        report,
        device={**report.device, "board_model": evil, "os": evil},
        notes=(evil,),
        variant=evil,
        run_context=replace(report.run_context, target=evil),
        runtime=replace(report.runtime, version=evil),
    )
    dirty = replace(manifest, labels=(evil,), metric=evil, created=evil)
    page = render(dirty, [replace(judged[0], reason=evil), *judged[1:]], 0.9778, 80_000, [report])
    assert "<img" not in page
    assert "<script" not in page
    assert "".join(read(page).texts).count(evil) >= 6


def test_without_scores_the_picture_shows_sqnr(manifest: Manifest, judged: tuple[Judged, ...]) -> None:
    replace = msgspec.structs.replace
    unscored = [
        replace(j, built=replace(j.built, score=None, drop=None)) if isinstance(j.built, Built) else j for j in judged
    ]
    page = render(replace(manifest, baseline=None, metric=""), unscored, None, 80_000)
    assert "SQNR against the source, dB" in page
    assert page.count("<svg") == 1


def test_a_build_without_any_usable_variant_is_still_shown(manifest: Manifest, judged: tuple[Judged, ...]) -> None:
    page = render(manifest, judged[-1:], 0.9778, 80_000)
    text = "".join(read(page).texts)
    assert "None met the budget." in text
    assert "the conversion succeeded and is wrong" in text


@pytest.mark.parametrize("level", [9e2, 4e4, 3e6, 2e9])
def test_pictures_are_well_formed_at_any_scale(make_report: MakeReport, level: float) -> None:
    for picture in (latency_picture, course_picture):
        for processes in (1, 7):
            svg = picture(make_report(level=level, processes=processes))
            root = ElementTree.fromstring(svg)
            assert root.tag.endswith("svg")
            colours = set(re.findall(r"#[0-9a-f]{6}\b", svg))
            assert not colours, f"colours that do not follow the page: {colours}"
            assert set(re.findall(r'"#(\w+)"', svg)) <= set(re.findall(r' id="(\w+)"', svg))


def test_a_budget_far_from_every_score_takes_no_room(judged: tuple[Judged, ...]) -> None:
    svg = size_picture(judged, 0.9778, 80_000, "top1", Budget(max_drop=0.5))  # matplotlib's warnings are errors here
    assert "w8a8-s50 tflite" in svg and "budget" not in svg
    assert "budget" in size_picture(judged, 0.9778, 80_000, "top1", Budget(max_drop=0.003))


def test_labels_do_not_hide_each_other(manifest: Manifest, judged: tuple[Judged, ...]) -> None:
    svg = size_picture(judged, 0.9778, 80_000, "top1", manifest.gates)
    text = "".join(ElementTree.fromstring(svg).itertext())
    for one in judged:
        if isinstance(one.built, Built):
            assert f"{one.built.precision}{'-s50' if one.built.sparsity else ''} {one.built.format}" in text


def test_a_picture_of_its_own_carries_its_colours(manifest: Manifest, judged: tuple[Judged, ...]) -> None:
    svg = standalone(size_picture(judged, 0.9778, 80_000, "top1", manifest.gates))
    ElementTree.fromstring(svg)
    assert "--ink" in svg
    assert "prefers-color-scheme: dark" in svg


def test_a_missing_matplotlib_is_named(
    manifest: Manifest, judged: tuple[Judged, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="matplotlib") as error:
        render(manifest, judged, 0.9778, 80_000)
    assert "edgepack[report]" in error.value.advice


def test_importing_reports_imports_no_matplotlib() -> None:
    code = "import sys, edgepack.reports; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
