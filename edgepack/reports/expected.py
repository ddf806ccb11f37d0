"""Latencies of a build: what boards measured of its variants, and, never in one column with that, what is only estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edgepack.names import VariantId
from edgepack.reports import html
from edgepack.reports.drawing import figures
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.reports.passes import mark
from edgepack.variant import Built, Measurement


class Estimated(Protocol):
    """An interval that holds the median latency with probability `coverage`, nobody having measured it."""

    @property
    def low_ms(self) -> float: ...
    @property
    def high_ms(self) -> float: ...
    @property
    def coverage(self) -> float: ...
    @property
    def basis(self) -> str: ...


def measured(variants: Sequence[Built]) -> list[Markup]:
    """What the boards that the build was given said of each variant, the verdict first."""
    rows = [_measured(built.id, one) for built in variants for one in built.measured]
    if not rows:
        return []
    numbers = ("median", "p90", "over its float parent", "memory")
    columns = [Column("verdict"), Column("variant", "name"), Column("board"), *(Column(n, "number") for n in numbers)]
    return [
        element("h3", "Measured while it was built"),
        html.table("Measured variants", columns, rows, heads=1),
        element("p", "What is invalid decides nothing. Intervals: 95 %.", kind="note"),
    ]


def _measured(variant: str, one: Measurement) -> list[Content]:
    ratio = one.against_parent
    against = "–" if ratio is None else f"{ratio.value:.3f} × ({ratio.low:.3f} … {ratio.high:.3f})"
    board = one.target if one.stand_in is None else f"{one.target}, {one.stand_in}: no device"
    memory = f"{one.memory_mb:.0f} MB"
    return [
        mark(one.verdict),
        variant,
        board,
        f"{figures(one.p50_ms)} ms",
        f"{figures(one.p90_ms)} ms",
        against,
        memory,
    ]


def estimated(found: Mapping[VariantId, Estimated]) -> list[Markup]:
    """Intervals only: no point that could be taken for a measurement."""
    rows: list[list[Content]] = [
        [variant, f"{one.low_ms:.3g} … {one.high_ms:.3g} ms", f"{100 * one.coverage:.0f} %", one.basis]
        for variant, one in found.items()
    ]
    if not rows:
        return []
    columns = [
        Column("variant", "name"),
        Column("its median may lie in", "number"),
        Column("and does so in", "number"),
        Column("rests on"),
    ]
    return [
        element("h3", "Estimated, not measured"),
        element("p", "From other models and devices; a board tells.", kind="note"),
        html.table("Estimated latencies", columns, rows, heads=0),
    ]
