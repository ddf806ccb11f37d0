"""Operators as a treemap: an area is a time, a colour a kind. Written as SVG at once, since it is rectangles and text only."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from edgepack.report import Operator
from edgepack.reports.drawing import SERIES, WIDE, Picture, duration, picture

_LETTER, _BOLD_LETTER = 0.62, 0.76
"""Width of a letter over the font's size: of DejaVu Sans, the widest of the fonts that pages are shown in, capitals if bold."""
_SIZE = 11.5


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    height: float


def squarify(values: Sequence[float], box: Box) -> list[Box]:
    """A rectangle for each value, its share of the box, as square as can be. values: positive, in falling order.

    Bruls, Huizing and van Wijk, Squarified Treemaps, 2000: a row along the shorter side grows while its worst aspect ratio falls.
    """
    total = sum(values)
    if not values or total <= 0:
        return []
    areas = [value / total * box.width * box.height for value in values]
    placed: list[Box] = []
    while areas:
        side = min(box.width, box.height)
        count = 1
        while count < len(areas) and _worst(areas[: count + 1], side) <= _worst(areas[:count], side):
            count += 1
        row, areas = areas[:count], areas[count:]
        cells, box = _lay(row, box)
        placed += cells
    return placed


def _worst(row: Sequence[float], side: float) -> float:
    """The largest aspect ratio in a row of these areas along a side."""
    total = sum(row)
    return max(side**2 * max(row) / total**2, total**2 / (side**2 * min(row)))


def _lay(row: Sequence[float], box: Box) -> tuple[list[Box], Box]:
    """The row's rectangles, and the box that is left."""
    total = sum(row)
    starts = [*accumulate(row, initial=0.0)]
    if box.width >= box.height:
        depth = total / box.height
        cells = [Box(box.x, box.y + s / depth, depth, area / depth) for s, area in zip(starts, row, strict=False)]
        return cells, Box(box.x + depth, box.y, max(box.width - depth, 0.0), box.height)
    depth = total / box.width
    cells = [Box(box.x + s / depth, box.y, area / depth, depth) for s, area in zip(starts, row, strict=False)]
    return cells, Box(box.x, box.y + depth, box.width, max(box.height - depth, 0.0))


def operators_picture(ops: Sequence[Operator]) -> Picture:
    """Kinds side by side, and within each its operators. ops: at least one that took time."""
    return picture("Time of each operator as an area", lambda width: _operators(ops, width))


@dataclass(frozen=True)
class Kind:
    name: str
    ops: tuple[Operator, ...]

    @property
    def ns(self) -> int:
        return sum(op.ns for op in self.ops)


def kinds(ops: Sequence[Operator]) -> tuple[Kind, ...]:
    """Operators that took time by kind, the costliest first, in both."""
    names = dict.fromkeys(op.kind for op in ops if op.ns > 0)
    grouped = [
        Kind(name, tuple(sorted((op for op in ops if op.kind == name and op.ns > 0), key=lambda op: -op.ns)))
        for name in names
    ]
    return tuple(sorted(grouped, key=lambda kind: -kind.ns))


def colour_of(kind: int) -> str:
    """The CSS variable of a kind by its place in `kinds`."""
    return f"p{kind + 1}" if kind < len(SERIES) else "muted"


def _operators(ops: Sequence[Operator], width: int) -> str:
    height = 320 if width >= WIDE else 440
    found = kinds(ops)
    total = sum(kind.ns for kind in found)
    cells = [
        _cell(op, cell, colour_of(row), total)
        for row, (kind, box) in enumerate(
            zip(found, squarify([k.ns for k in found], Box(0, 0, width, height)), strict=True)
        )
        for op, cell in zip(kind.ops, squarify([op.ns for op in kind.ops], box), strict=True)
    ]
    return f'<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">{"".join(cells)}</svg>'


def _cell(op: Operator, box: Box, colour: str, total: int) -> str:
    share = f"{op.ns / total:.1%}".replace("%", " %")
    gap = 1.0 if min(box.width, box.height) > 4 else 0.25
    lines = "".join(_lines(box, (op.kind, share, op.name)))
    hint = html.escape(f"{op.kind} {op.name}: {duration(op.ns)}, {share}")
    return (
        f'<g><title>{hint}</title><rect x="{box.x + gap:.1f}" y="{box.y + gap:.1f}" '
        f'width="{max(box.width - 2 * gap, 0.3):.1f}" height="{max(box.height - 2 * gap, 0.3):.1f}" rx="2" '
        f'style="fill: var(--{colour}); fill-opacity: 0.3"/>{lines}</g>'
    )


def _lines(box: Box, texts: Sequence[str]) -> Iterator[str]:
    """As many lines as the box has room for; a kind is cut at its end, a name at its beginning, a share is whole or not there."""
    for row, text in enumerate(texts):
        low = box.y + 17 + row * 15
        room = int((box.width - 12) / (_SIZE * (_BOLD_LETTER if row == 0 else _LETTER)))
        cut = text if len(text) <= room else f"{text[: room - 1]}…" if row == 0 else f"…{text[-(room - 1) :]}"
        if low + 5 > box.y + box.height or (cut != text and (row == 1 or room < 5)):
            return
        yield (
            f'<text x="{box.x + 7:.1f}" y="{low:.1f}" style="font: {"600" if row == 0 else "400"} {_SIZE}px sans-serif; '
            f'fill: var(--ink)">{html.escape(cut)}</text>'
        )
