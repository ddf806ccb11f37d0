"""What is good against what it costs: points with error bars, the front of those that nothing beats, labels that do not hide.

For a build's variants and for the trials of a search alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from edgepack.reports.drawing import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    MUTED,
    PAPER,
    SMALL,
    WARN,
    WIDE,
    Picture,
    byte_size,
    picture,
    sheet,
    svg,
)
from edgepack.variant import Status

MOST_LABELS = 18
Interval = tuple[float, float]
_MARKS: dict[Status, tuple[str, str, float]] = {
    "selected": ("*", GOOD, 230),
    "kept": ("o", ACCENT, 58),
    "rejected": ("X", BAD, 50),
}


@dataclass(frozen=True)
class Point:
    """x_interval, y_interval: ends of error bars, None where nobody knows them."""

    label: str
    x: float
    y: float
    status: Status = "kept"
    x_interval: Interval | None = None
    y_interval: Interval | None = None


@dataclass(frozen=True)
class Scale:
    """An axis. unit: `bytes`, `ms`, or `plain` for what has no unit; limit: the budget, beyond which is shaded"""

    title: str
    unit: Literal["bytes", "ms", "plain"] = "plain"
    better: Literal["lower", "higher"] = "lower"
    limit: float | None = None
    limit_name: str = ""


def front_picture(
    title: str, points: Sequence[Point], x: Scale, y: Scale, source: Point | None = None, doubt: str = ""
) -> Picture:
    """Points and the line of those that no other beats in both. source: where it all began, hollow. doubt: written over it.

    Points that are not on the front go without a label where there are many. Without points an empty picture.
    """
    return picture(title, lambda width: _front(points, x, y, source, doubt, width))


def front(points: Sequence[Point], x: Scale, y: Scale) -> list[Point]:
    """Those that no other beats in one without losing in the other, by x."""

    def cost(point: Point) -> tuple[float, float]:
        return point.x * (1 if x.better == "lower" else -1), point.y * (1 if y.better == "lower" else -1)

    best: list[Point] = []
    for point in sorted(points, key=cost):
        if not best or cost(point)[1] < cost(best[-1])[1]:
            best.append(point)
    return best


def _front(points: Sequence[Point], x: Scale, y: Scale, source: Point | None, doubt: str, width: int) -> str:
    every = [*points, *([source] if source else [])]
    best = front(points, x, y)
    with sheet(width, 330 if width > 500 else 360) as (figure, (axis,)):
        axis.set_xlabel(x.title)
        axis.set_ylabel(y.title)
        axis.grid(visible=False, axis="x")
        if every:
            _set_scales(axis, every, x, y, width)
        _limits(axis, x, y)
        _bars(axis, points)
        if source:
            axis.axhline(source.y, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
            axis.scatter(
                [source.x], [source.y], marker="D", s=95, facecolors=PAPER, edgecolors=INK, linewidths=1.4, zorder=3
            )
        if len(best) > 1:
            how = "steps-post" if y.better == "higher" else "steps-pre"
            axis.plot([p.x for p in best], [p.y for p in best], color=MUTED, linewidth=1, drawstyle=how, alpha=0.7)
        for status, (marker, colour, area) in _MARKS.items():
            chosen = [point for point in points if point.status == status]
            area = area if len(points) <= MOST_LABELS or status != "rejected" else area / 3
            axis.scatter([p.x for p in chosen], [p.y for p in chosen], marker=marker, s=area, color=colour, linewidths=0,
                         zorder=4)  # fmt: skip
        if doubt:
            axis.text(0.99, 0.97, doubt, transform=axis.transAxes, ha="right", va="top", color=BAD, fontweight="bold",
                      fontsize=13, zorder=6)  # fmt: skip
        named = _named(points, best)
        order = sorted(named, key=lambda point: ("selected", "kept", "rejected").index(point.status))
        labels = [*([(source, INK)] if source else []), *((point, _MARKS[point.status][1]) for point in order)]
        _place_labels(figure, axis, labels, best)
        return svg(figure)


def _named(points: Sequence[Point], best: Sequence[Point]) -> Sequence[Point]:
    """All where they are few; else those that are not rejected, or, where those too are many, this picture's own front."""
    if len(points) <= MOST_LABELS:
        return points
    good = [point for point in points if point.status != "rejected"]
    if len(good) <= MOST_LABELS:
        return [point for point in points if point in good or point in best]
    return [point for point in points if point in best or point.status == "selected"]


def _set_scales(axis: Any, points: Sequence[Point], x: Scale, y: Scale, width: int) -> None:
    """Limits around the points with room for labels; a budget far from them stays outside."""
    barred = _barred(points)
    xs = [p.x for p in points] + [end for p in barred for end in p.x_interval or ()]
    ys = [p.y for p in points] + [end for p in barred for end in p.y_interval or ()]
    if min(xs) > 0:
        axis.set_xscale("log")
        room = max(math.log(max(xs) / min(xs)), 0.3) * 0.14
        axis.set_xlim(min(xs) * math.exp(-room), max(xs) * math.exp(room))
        _label_decades(axis, x, max(xs) / min(xs), width)
    else:
        axis.margins(x=0.14)
    height = max(max(ys) - min(ys), 1e-3 * max(map(abs, ys)), 1e-9) * 0.16
    axis.set_ylim(min(ys) - height, max(ys) + height)


def _label_decades(axis: Any, x: Scale, spread: float, width: int) -> None:
    """As many labels as stand beside each other on a page of this width."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    if spread > 3:
        axis.xaxis.set_major_locator(
            LogLocator(10, subs=(1, 2, 5) if spread < (30 if width < WIDE else 1000) else (1,))
        )
    else:
        axis.xaxis.set_major_locator(MaxNLocator(3 if width < WIDE else 5))
        axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value, x)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _tick(value: float, scale: Scale) -> str:
    match scale.unit:
        case "bytes":
            return byte_size(value)
        case "ms":
            return f"{value:g} ms" if value >= 0.1 else f"{value * 1000:g} µs"
        case "plain":
            return f"{value:g}"


def _limits(axis: Any, x: Scale, y: Scale) -> None:
    """What the budget forbids, shaded."""
    left, right = axis.get_xlim()
    low, high = axis.get_ylim()
    if y.limit is not None and low < y.limit < high:
        far = low if y.better == "higher" else high
        axis.axhspan(*sorted((y.limit, far)), color=WARN, alpha=0.10, linewidth=0)
        axis.axhline(y.limit, color=WARN, linewidth=1)
        axis.annotate(y.limit_name, (1, y.limit), xycoords=("axes fraction", "data"), xytext=(-3, 3), ha="right",
                      textcoords="offset points", color=WARN, fontsize=SMALL)  # fmt: skip
    if x.limit is not None and left < x.limit < right:
        axis.axvspan(x.limit, right, color=WARN, alpha=0.10, linewidth=0)
        axis.axvline(x.limit, color=WARN, linewidth=1)


def _barred(points: Sequence[Point]) -> list[Point]:
    """What was rejected goes without error bars: they would hide the others."""
    return [point for point in points if point.status != "rejected"]


def _bars(axis: Any, points: Sequence[Point]) -> None:
    for point in _barred(points):
        colour = _MARKS[point.status][1]
        for ends, horizontal in ((point.x_interval, True), (point.y_interval, False)):
            if ends is None:
                continue
            low, high = ends
            xs, ys = ((low, high), (point.y,) * 2) if horizontal else ((point.x,) * 2, (low, high))
            axis.plot(xs, ys, color=colour, linewidth=1.1, alpha=0.45, marker="|" if horizontal else "_", markersize=5)


def share_interval(share: float, count: int) -> Interval:
    """The 95 % interval of a share (0 to 1) of `count` samples. Wilson, Journal of the American Statistical Association, 1927."""
    z = 1.959964
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    reach = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)


Box = tuple[float, float, float, float]


def _place_labels(figure: Any, axis: Any, labels: Sequence[tuple[Point, str]], best: Sequence[Point]) -> None:
    """Each label where it hides least: tried around its point, farther with a thin line. best: what the front's line joins"""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    places = [axis.transData.transform((point.x, point.y)) for point, _ in labels]
    taken: list[Box] = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    corners = [axis.transData.transform((point.x, point.y)) for point in best]
    taken += [(a[0], a[1] - 2, b[0], a[1] + 2) for a, b in pairwise(corners)]
    taken += [text.get_window_extent(renderer).extents for text in axis.texts]
    for (point, colour), place in zip(labels, places, strict=True):
        drawn = axis.annotate(
            point.label, (point.x, point.y), xytext=(0, 0), textcoords="offset points", fontsize=SMALL
        )
        extent = drawn.get_window_extent(renderer)
        drawn.remove()
        options = _candidates(place, extent.width, extent.height)
        box, dx, dy = min(options, key=lambda option: _cost(option, taken, inside))
        far = math.hypot(dx, dy) > 14
        arrow = (
            {"arrowstyle": "-", "color": colour, "linewidth": 0.8, "alpha": 0.6, "shrinkA": 1, "shrinkB": 6}
            if far
            else None
        )
        axis.annotate(
            point.label, (point.x, point.y), xytext=(box[0] - place[0], box[1] - place[1] + 1.5), color=colour,
            textcoords="offset points", fontsize=SMALL, arrowprops=arrow, zorder=5,
        )  # fmt: skip
        taken.append(box)


def _candidates(place: Sequence[float], width: float, height: float) -> Iterator[tuple[Box, float, float]]:
    for radius in (9, 19, 31, 45, 60):
        for angle in (0, 90, 270, 180, 45, 315, 135, 225):
            dx, dy = radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
            left = place[0] + dx - (0 if dx > 1 else width if dx < -1 else width / 2)
            low = place[1] + dy - (0 if dy > 1 else height if dy < -1 else height / 2)
            yield (left, low, left + width, low + height), dx, dy


def _cost(option: tuple[Box, float, float], taken: Sequence[Box], inside: Any) -> float:
    box, dx, dy = option
    across = max(0.0, float(inside.x0) - box[0]) + max(0.0, box[2] - float(inside.x1))
    along = max(0.0, float(inside.y0) - box[1]) + max(0.0, box[3] - float(inside.y1))
    return sum(_overlap(box, other) for other in taken) + 60 * (across + along) + 0.5 * math.hypot(dx, dy)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
