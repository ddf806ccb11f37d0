"""What a page says of a build beside its variants: layers, measured and estimated latencies."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import msgspec
import pytest
from msgspec import structs

from edgepack.reports import Build, render
from edgepack.reports.fronts import Point, Scale, front, share_interval
from edgepack.reports.treemap import Box, squarify
from edgepack.variant import Built, LayerReport, Measurement, Ratio

pytestmark = pytest.mark.frameworks


def a_layer(kind: str, name: str, sqnr_db: float) -> LayerReport:
    return LayerReport(
        kind=kind, name=name, sqnr_db=sqnr_db, cosine=0.9991, low=-1.0, high=6.0, clipped=0.0123, shift=0.002
    )


@dataclass(frozen=True)
class AnEstimate:
    low_ms: float
    high_ms: float
    coverage: float
    basis: str = "own reports"


def test_layers_are_a_picture_and_a_table(build: Build) -> None:
    name = build.judged[0].built.id
    layers = [
        a_layer("CONV_2D", "first", 38.2),
        a_layer("CONV_2D", "<second>", 12.5),
        a_layer("ADD", "third", float("inf")),
    ]
    page = render([], replace(build, layers={name: layers}))
    assert f"Layer by layer: {name}" in page
    assert page.count("Signal to quantization noise of each layer</title>") == 2
    assert "&lt;second&gt;" in page and "12.5" in page and "-1 … 6" in page and "1.23 %" in page


def test_measured_and_estimated_are_never_in_one_column(build: Build) -> None:
    first, second = build.judged[0], build.judged[1]
    assert isinstance(first.built, Built)
    told = Measurement(
        target="kitchen", stand_in=None, p50_ms=4.2, p90_ms=4.4, memory_mb=60, against_parent=Ratio(0.61, 0.6, 0.62),
        verdict="suspect", reasons=("it was warm",),
    )  # fmt: skip
    built = msgspec.structs.replace(first.built, measured=(told,), latency_ms=4.2)
    judged = (msgspec.structs.replace(first, built=built), *build.judged[1:])
    page = render([], replace(build, judged=judged, estimates={second.built.id: AnEstimate(0.31, 1.24, 0.9)}))
    measured = page[page.index("Measured while it was built") : page.index("Estimated, not measured")]
    assert measured.index("suspect") < measured.index("4.20 ms") and "0.610 × (0.600 … 0.620)" in measured
    assert "1.24" not in measured
    assert re.search(r"0\.31 … 1\.24 ms.*90 %", page[page.index("Estimated, not measured") :], re.DOTALL)


def test_a_front_is_what_nothing_beats() -> None:
    points = [Point("a", 1, 0.9), Point("b", 2, 0.95), Point("c", 3, 0.94), Point("d", 1, 0.8), Point("e", 4, 0.99)]
    higher = Scale("score", better="higher")
    assert [point.label for point in front(points, Scale("size"), higher)] == ["a", "b", "e"]
    assert [point.label for point in front(points, Scale("size"), Scale("loss"))] == ["d"]


def test_a_share_has_wilson_s_interval() -> None:
    low, high = share_interval(0.9, 100)
    assert (low, high) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))
    assert share_interval(1.0, 50) == (pytest.approx(0.9287, abs=1e-4), pytest.approx(1))
    assert share_interval(0.0, 50)[0] == pytest.approx(0)


@pytest.mark.parametrize("values", [[6, 6, 4, 3, 2, 2, 1], [1], [1000, 1, 1, 1], [1e-9] * 40, list(range(60, 0, -1))])
def test_squares_fill_their_box_in_their_shares(values: list[float]) -> None:
    box = Box(10, 20, 600, 400)
    cells = squarify(values, box)
    total = sum(values)
    for value, cell in zip(values, cells, strict=True):
        assert cell.width * cell.height == pytest.approx(value / total * 600 * 400, rel=1e-6)
        assert cell.x >= 10 - 1e-6 and cell.x + cell.width <= 610 + 1e-6
        assert cell.y >= 20 - 1e-6 and cell.y + cell.height <= 420 + 1e-6
    if values == [6, 6, 4, 3, 2, 2, 1]:  # the paper's example: its first two cells side by side in the left half
        assert [(cell.width, cell.height) for cell in cells[:2]] == [(pytest.approx(300), pytest.approx(200))] * 2


def test_a_metric_of_one_s_own_is_named_without_its_digest(build: Build) -> None:
    named = structs.replace(build.manifest, metric="metric.py:top1 sha256:9aa1934b")
    page = render([], replace(build, manifest=named))
    assert "metric.py:top1; the source has" in page and "metric.py:top1, evaluation data" in page
    assert "9aa1934b" not in page
