"""Two runs against each other: the ratio of their medians with its interval, process by process and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.report import Comparison, ProcessRun, Report
from edgepack.reports.drawing import ACCENT, INK, MUTED, WARN, WIDE, Picture, picture, sheet, svg
from edgepack.stats import median_interval, percentile


@dataclass(frozen=True)
class Line:
    """One line of a forest plot. whole: a result, drawn as a diamond; else a part of one."""

    name: str
    ratio: float
    interval: tuple[float, float]
    whole: bool


def pairs(before: Report, after: Report) -> tuple[Line, ...]:
    """Processes that ran next to each other, as an interleaved A/B run has them: the k-th of both."""
    couples = zip(before.processes, after.processes, strict=False)
    return tuple(_pair(number, a, b) for number, (a, b) in enumerate(couples, 1))


def _pair(number: int, a: ProcessRun, b: ProcessRun) -> Line:
    """The interval from the order statistics of both medians, as logarithms, their errors added in squares."""
    ordered = [sorted(run.samples_ns) for run in (a, b)]
    ratio = percentile(ordered[1], 50) / percentile(ordered[0], 50)
    ends = [median_interval(samples) for samples in ordered]
    reach = math.hypot(*(math.log(high / low) / 2 for low, high in ends))
    return Line(f"pair {number}", ratio, (ratio * math.exp(-reach), ratio * math.exp(reach)), whole=False)


def whole(comparison: Comparison, name: str) -> Line:
    return Line(name, comparison.ratio, comparison.interval, whole=True)


def forest_picture(lines: Sequence[Line], margin: float) -> Picture:
    """margin: 0.05 shades up to 5 % slower, where a difference still counts as none."""
    return picture("Ratio of the medians with its 95 % interval", lambda width: _forest(lines, margin, width))


def _forest(lines: Sequence[Line], margin: float, width: int) -> str:
    with sheet(width, 56 + 24 * len(lines)) as (figure, (axis,)):
        ends = [end for line in lines for end in line.interval]
        low, high = min(1 - margin, *ends), max(1 + margin, *ends)
        room = (high - low) * 0.06
        axis.set_xlim(low - room, high + room)
        axis.axvspan(1, 1 + margin, color=WARN, alpha=0.13, linewidth=0)
        axis.axvline(1, color=INK, linewidth=1)
        for row, line in enumerate(lines):
            colour = ACCENT if line.whole else MUTED
            axis.plot(
                line.interval, (row, row), color=colour, linewidth=2.6 if line.whole else 1.4, solid_capstyle="butt"
            )
            axis.plot(
                [line.ratio], [row], color=colour, marker="D" if line.whole else "s", markersize=9 if line.whole else 5
            )
        axis.set_yticks(range(len(lines)), [_short(line.name, width) for line in lines])
        axis.tick_params(axis="y", length=0, labelcolor=INK)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.grid(visible=False, axis="y")
        axis.set_xlabel("← faster · ratio of the medians · slower →")
        right = axis.secondary_yaxis("right")
        right.set_yticks(range(len(lines)), [f"{line.ratio:.3f}" for line in lines])
        right.tick_params(axis="y", length=0, labelcolor=INK)
        right.spines["right"].set_visible(False)
        axis.spines["left"].set_visible(False)
        return svg(figure)


def _short(name: str, width: int) -> str:
    most = 40 if width >= WIDE else 14
    return name if len(name) <= most else f"{name[: most - 1]}…"
