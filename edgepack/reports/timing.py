"""Pictures of one benchmark: how its latencies are distributed, and how they and the board went over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

from edgepack.report import ProcessRun, Report
from edgepack.reports.drawing import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    LINE,
    PAPER,
    SMALL,
    WARN,
    WIDE,
    Picture,
    dots,
    doubt,
    duration,
    picture,
    series,
    sheet,
    svg,
    time_unit,
)
from edgepack.stats import percentile

MOST_DOTS = 3000
"""In one picture: more hide each other and make the page heavy. The slowest are always among them."""
_MOST_WARM = 25
"""Inferences of a warm-up that are drawn, about."""
NOW_BITS = 0b1111
"""Of the firmware's throttling bits, those that say what is the case now."""


def doubt_of(report: Report) -> str:
    """What is written over every picture of a run that is not valid; empty for one that is, or may be."""
    if report.validity.verdict != "invalid":
        return ""
    return "not a device latency" if report.device.get("board") in ("emulated", "machine") else "not valid"


def upper_end(ordered: Sequence[int]) -> float:
    """Where an axis of latencies ends, in ns: outliers must not squeeze what happens most of the time.

    Beyond the 99th percentile, unless that is an outlier itself, as on a machine that computes something else beside.
    """
    p50, p90, p99 = (percentile(ordered, share) for share in (50, 90, 99))
    body = p99 if p99 < 2.5 * p50 else p90
    return min(ordered[-1] * 1.02, max(body + 1.2 * (body - p50), 1.05 * p50))


def latency_picture(report: Report, most: int = MOST_DOTS) -> Picture:
    """The distribution: an ECDF of all samples over a histogram, with median and 90th percentile; below, a strip a process."""
    title = "Distribution of latencies: share of samples at or below a latency"
    return picture(title, lambda width: _latency(report, width, most))


def _latency(report: Report, width: int, most: int) -> str:
    processes = report.processes
    unit, scale = time_unit(report.summary.p50_ns)
    samples = sorted(sample for process in processes for sample in process.samples_ns)
    last = upper_end(samples)
    strips_height = 12 + 18 * len(processes)
    with sheet(width, 215 + strips_height, (170, strips_height)) as (figure, (curve, strips)):
        _histogram(curve, [s / scale for s in samples if s <= last])
        steps = _quantiles(samples)
        curve.step(
            [s / scale for s, _ in steps], [share for _, share in steps], where="post", color=ACCENT, linewidth=1.8
        )
        low, high = report.summary.p50_interval_ns
        curve.axvspan(low / scale, high / scale, color=INK, alpha=0.15, linewidth=0)
        for name, value, side in (("p50", report.summary.p50_ns, "right"), ("p90", report.summary.p90_ns, "left")):
            curve.axvline(value / scale, color=INK, linewidth=1)
            curve.annotate(
                f"{name} {duration(value)}", (value / scale, 1.0), xycoords=("data", "axes fraction"),
                xytext=(-4 if side == "right" else 4, 4), textcoords="offset points", ha=side, annotation_clip=False,
            )  # fmt: skip
        curve.set_ylim(0, 1.1)
        curve.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        curve.set_ylabel("share of samples")
        _strips(strips, processes, scale, _step(len(samples), most, width))
        margin = (last - samples[0]) * 0.05 or samples[0] * 0.05
        strips.set_xlim((samples[0] - margin) / scale, (last + margin) / scale)
        beyond = sum(sample > last for sample in samples)
        strips.set_xlabel(f"latency of one inference, {unit}" + (f" ({beyond} more to the right)" if beyond else ""))
        doubt(curve, doubt_of(report), 0.6)
        return svg(figure)


def _quantiles(ordered: Sequence[int]) -> list[tuple[int, float]]:
    """At most some 400 points of the ECDF, the first and the last among them."""
    step = max(1, len(ordered) // 400)
    chosen = sorted({*range(0, len(ordered), step), len(ordered) - 1})
    return [(ordered[index], (index + 1) / len(ordered)) for index in chosen]


def _histogram(axis: Any, shown: Sequence[float]) -> None:
    """Bars that reach at most 60 % of the height: they show the shape, the curve the shares."""
    import numpy as np

    counts, edges = np.histogram(shown, bins=60)
    heights = 0.6 * counts / max(1, int(counts.max()))
    axis.stairs(heights, edges, fill=True, color=ACCENT, alpha=0.2, linewidth=0)


def _strips(axis: Any, processes: Sequence[ProcessRun], scale: float, step: int) -> None:
    for row, process in enumerate(processes):
        chosen = _thin(list(enumerate(process.samples_ns)), step)
        # A fixed irregular pattern instead of chance: the same report gives the same picture.
        dots(
            axis,
            [(s / scale, row + 0.5 * ((index * 0.618034) % 1 - 0.5)) for index, s in chosen],
            series(row),
            3.2,
            0.55,
        )
    axis.set_yticks(range(len(processes)), [f"process {row + 1}" for row in range(len(processes))])
    axis.set_ylim(len(processes) - 0.45, -0.55)
    axis.grid(visible=False)
    axis.tick_params(axis="y", length=0)


def _step(count: int, most: int, width: int) -> int:
    return max(1, -(-count * WIDE // (most * width)))


def _thin(times: Sequence[tuple[Any, int]], step: int) -> list[tuple[Any, int]]:
    """Every step-th, and those that are slower than 99.5 % of them."""
    if step == 1:
        return list(times)
    limit = percentile(sorted(ns for _, ns in times), 99) * 1.02
    return [each for index, each in enumerate(times) if index % step == 0 or each[1] > limit]


@dataclass(frozen=True)
class Told:
    """What the board said at a moment, in seconds since the run's beginning."""

    at_s: float
    temperature_c: float | None
    mhz: tuple[int, ...]
    throttled: int | None


@dataclass(frozen=True)
class Stretch:
    """One process on the run's time axis, in seconds. warm, timed: (when, ns)"""

    starts_s: float
    ends_s: float
    warm: tuple[tuple[float, int], ...]
    timed: tuple[tuple[float, int], ...]
    told: tuple[Told, ...]


def stretches(processes: Sequence[ProcessRun]) -> tuple[Stretch, ...]:
    """Processes one after the other, without their imports. Between blocks the board's own clock counts; inside one, inferences
    add up."""
    found: list[Stretch] = []
    at = 0.0
    for process in processes:
        found.append(_stretch(process, at))
        at = found[-1].ends_s + 0.04 * (found[-1].ends_s - found[-1].starts_s)
    return tuple(found)


def _stretch(process: ProcessRun, starts: float) -> Stretch:
    warm = [*accumulate((ns / 1e9 for ns in process.warm_ns), initial=starts)]
    timed_at = warm[-1]
    offsets = _offsets(process)
    told = [
        Told(timed_at + block.at_ns / 1e9, block.temperature_c, block.mhz, block.throttled) for block in process.blocks
    ]
    timed = tuple((timed_at + at, ns) for at, ns in zip(offsets, process.samples_ns, strict=True))
    ends = max(timed[-1][0] + timed[-1][1] / 1e9, told[-1].at_s if told else 0.0) if timed else timed_at
    return Stretch(starts, ends, tuple(zip(warm, process.warm_ns, strict=False)), timed, _changes(told))


def _changes(told: Sequence[Told]) -> tuple[Told, ...]:
    """What a line needs: where nothing changed since the one before nor will until the next, nothing is lost."""
    last = len(told) - 1
    return tuple(
        each
        for index, each in enumerate(told)
        if index in (0, last) or not _alike(told[index - 1], each) or not _alike(each, told[index + 1])
    )


def _alike(one: Told, other: Told) -> bool:
    return replace(one, at_s=0.0) == replace(other, at_s=0.0)


def _offsets(process: ProcessRun) -> list[float]:
    """When each sample began, in seconds since the first block.

    Within a block one follows the other; a board that ran untimed inferences between them had more time for it, which is spread.
    """
    starts = [block.start for block in process.blocks] or [0]
    begins = [block.at_ns / 1e9 for block in process.blocks] or [0.0]
    offsets: list[float] = []
    slack = 1.0
    for number, (start, begin) in enumerate(zip(starts, begins, strict=True)):
        samples = process.samples_ns[start : starts[number + 1] if number + 1 < len(starts) else None]
        taken = sum(samples) / 1e9
        if number + 1 < len(begins) and taken > 0:
            slack = max(1.0, 0.95 * (begins[number + 1] - begin) / taken)
        offsets += accumulate((slack * ns / 1e9 for ns in samples[:-1]), initial=begin) if samples else ()
    return offsets


def course_picture(report: Report, most: int = MOST_DOTS) -> Picture:
    """Latency over time, and below it the temperature and the clock of the board where it tells them, on one time axis.

    The axis spans the samples; what is far above it (a warm-up run, an outlier) is a triangle at its upper edge.
    """
    title = "Latency over time, with the temperature and the clock of the board where it tells them"
    return picture(title, lambda width: _course(report, width, most))


def _course(report: Report, width: int, most: int) -> str:
    runs = stretches(report.processes)
    told = [each for run in runs for each in run.told]
    warm = any(each.temperature_c is not None for each in told)
    clocked = any(each.mhz for each in told)
    rows = [190, *([64] if warm else []), *([64] if clocked else [])]
    with sheet(width, sum(rows) + 40, rows) as (figure, axes):
        _latencies(axes[0], report, runs, _step(report.summary.count, most, width))
        if warm:
            _temperature(axes[1], runs)
        if clocked:
            _clock(axes[-1], runs)
        for axis in axes:
            _throttled(axis, runs, named=axis is axes[0])
            for before, after in pairwise(runs):
                axis.axvline((before.ends_s + after.starts_s) / 2, color=LINE, linewidth=1)
        axes[0].set_xlim(-0.006 * runs[-1].ends_s, runs[-1].ends_s * 1.006)
        axes[-1].set_xlabel("seconds, without the starts of the processes")
        figure.align_ylabels(axes)
        return svg(figure)


def _latencies(axis: Any, report: Report, runs: Sequence[Stretch], step: int) -> None:
    unit, scale = time_unit(report.summary.p50_ns)
    samples = sorted(ns for run in runs for _, ns in run.timed)
    top = upper_end(samples)
    bottom = min(
        samples[0] - 0.06 * (top - samples[0]), 0.9 * top
    )  # a span of a percent would make noise look like news
    for row, run in enumerate(runs):
        timed = _thin(run.timed, step)
        dots(axis, [(at, ns / scale) for at, ns in timed if ns <= top], series(row), 3.6)
        warm = _thin(run.warm, max(1, len(run.warm) // _MOST_WARM))
        for times, fill in ((warm, PAPER), (timed, series(row))):
            above = [at for at, ns in times if ns > top]
            axis.plot(above, [top * 0.985 / scale] * len(above), linestyle="", marker="^", markersize=6.5,
                      markerfacecolor=fill, markeredgecolor=series(row), zorder=4)  # fmt: skip
        within = [(at, ns) for at, ns in warm if ns <= top]
        axis.plot([at for at, _ in within], [ns / scale for _, ns in within], linestyle="", marker="o", markersize=4,
                  markerfacecolor=PAPER, markeredgecolor=series(row), zorder=3)  # fmt: skip
    axis.axhline(report.summary.p50_ns / scale, color=INK, linewidth=1, zorder=2)
    axis.set_ylim(bottom / scale, top / scale)
    axis.grid(visible=False, axis="x")
    axis.set_ylabel(unit)
    doubt(axis, doubt_of(report), 0.88)


def _temperature(axis: Any, runs: Sequence[Stretch]) -> None:
    for run in runs:
        known = [(each.at_s, each.temperature_c) for each in run.told if each.temperature_c is not None]
        axis.plot([at for at, _ in known], [c for _, c in known], color=BAD, linewidth=1.8, **_marks(len(known)))
    low, high = axis.get_ylim()
    if high - low < 4:  # half a degree is not a mountain
        axis.set_ylim((low + high) / 2 - 2, (low + high) / 2 + 2)
    axis.margins(y=0.15)
    axis.grid(visible=False, axis="x")
    axis.set_ylabel("°C")


def _clock(axis: Any, runs: Sequence[Stretch]) -> None:
    """The fastest core as a line, the slower ones as a band below it."""
    for run in runs:
        known = [each for each in run.told if each.mhz]
        times, high = [each.at_s for each in known], [max(each.mhz) for each in known]
        low = [min(each.mhz) for each in known]
        if low != high:
            axis.fill_between(times, low, high, step="post", color=GOOD, alpha=0.2, linewidth=0)
        axis.step(times, high, where="post", color=GOOD, linewidth=1.8, **_marks(len(known)))
    highest = max(max(each.mhz) for run in runs for each in run.told if each.mhz)
    axis.set_ylim(0, highest * 1.15)
    axis.grid(visible=False, axis="x")
    axis.set_ylabel("MHz")


def _marks(count: int) -> dict[str, Any]:
    """Few moments are dots as well: one alone would be no line."""
    return {"marker": "o", "markersize": 2.5} if count <= 40 else {}


def _throttled(axis: Any, runs: Sequence[Stretch], named: bool) -> None:
    """Shaded from where the board said so to where it said the opposite, or to the process's end."""
    spans: list[tuple[float, float]] = []
    for run in runs:
        ends = [*(each.at_s for each in run.told[1:]), run.ends_s]
        for each, end in zip(run.told, ends, strict=False):
            if not (each.throttled or 0) & NOW_BITS:
                continue
            joined = spans and spans[-1][1] == each.at_s  # one area: two that touch show a seam
            spans.append((spans.pop()[0] if joined else each.at_s, end))
    for start, end in spans:
        axis.axvspan(start, end, color=WARN, alpha=0.16, linewidth=0, zorder=0)
    if spans and named:
        axis.annotate("throttled", (spans[0][0], 1), xycoords=("data", "axes fraction"), xytext=(3, -4), va="top",
                      textcoords="offset points", color=WARN, fontsize=SMALL, fontweight="bold", zorder=6)  # fmt: skip
