"""Pictures as SVG that take their colours from the page around them, so that they read in light and in dark.

matplotlib draws with stand-in colours, which become CSS variables; its text stays text. The same values give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgepack.errors import missing_extra
from edgepack.profile import Budget
from edgepack.report import ProcessRun, Report
from edgepack.stats import percentile
from edgepack.variant import Built, Judged, Status

INK, MUTED, LINE, GOOD, ACCENT, BAD, WARN, PAPER = (f"#0{n}0{n}0{n}" for n in "12345678")
PROCESSES = tuple(f"#0b0b0{n}" for n in "12345")
_VARIABLES = dict(
    zip(
        (INK, MUTED, LINE, GOOD, ACCENT, BAD, WARN, PAPER, *PROCESSES),
        ("ink", "muted", "line", "good", "accent", "bad", "warn", "paper", "p1", "p2", "p3", "p4", "p5"),
        strict=True,
    )
)
_WIDTH = 6.6
_STYLE = {
    "svg.hashsalt": "edgepack",
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "text.color": INK,
}
_MARKS: dict[Status, tuple[str, str, float]] = {
    "selected": ("*", GOOD, 190),
    "kept": ("o", ACCENT, 46),
    "rejected": ("X", BAD, 42),
}


@contextmanager
def _figure(height: float, rows: Sequence[float] = (1,)) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its axes, one below the other, in relative heights, sharing x. Raises UsageError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise missing_extra("matplotlib", "report", "a report with pictures") from None
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), dpi=72, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(rows), 1, sharex=True, height_ratios=rows, squeeze=False)
        yield figure, [axis for row in axes for axis in row]


def _svg(figure: Any, title: str) -> str:
    """The figure as an `<svg>` element with a title for screen readers and without anything that changes between runs."""
    buffer = io.StringIO()
    figure.patch.set_alpha(0)
    for axis in figure.axes:
        axis.patch.set_alpha(0)
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r' id="(?:figure|axes|patch|line2d|text|xtick|ytick|matplotlib\.axis|PathCollection|LineCollection)[\w.]*"',
        "",
        svg,
    )
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg viewBox="\1" xmlns="http://www.w3.org/2000/svg" '
                 rf'xmlns:xlink="http://www.w3.org/1999/xlink" role="img"><title>{title}</title>', svg)  # fmt: skip
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", svg).strip()


@dataclass(frozen=True)
class _Point:
    x: float
    y: float
    label: str
    status: Status


def size_picture(
    judged: Sequence[Judged], baseline: float | None, source_bytes: int, metric: str, budget: Budget
) -> str:
    """Every variant's size against its score (against its SQNR where nothing was scored), the source, and the budget."""
    scored = baseline is not None and any(isinstance(j.built, Built) and j.built.score is not None for j in judged)
    points = list(_points(judged, scored))
    with _figure(3.7) as (figure, (axis,)):
        axis.set_xscale("log")
        axis.set_xlabel("size of the model file")
        axis.set_ylabel(f"{metric or 'score'}, evaluation data" if scored else "SQNR against the source, dB")
        axis.grid(visible=False, axis="x")
        fixed: list[tuple[float, float]] = []
        if scored and baseline is not None:
            _draw_budget(axis, judged, baseline, budget)
            axis.axhline(baseline, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
            axis.scatter([source_bytes], [baseline], marker="D", s=90, facecolors=PAPER, edgecolors=INK, linewidths=1.2)
            fixed.append((source_bytes, baseline))
        for status, (marker, colour, area) in _MARKS.items():
            chosen = [point for point in points if point.status == status]
            axis.scatter(
                [p.x for p in chosen],
                [p.y for p in chosen],
                marker=marker,
                s=area,
                color=colour,
                linewidths=0,
                zorder=3,
            )
        _fit(axis, [*((p.x, p.y) for p in points), *fixed])
        _label_sizes(axis)
        labels = [
            (p.x, p.y, p.label, _MARKS[p.status][1]) for p in sorted(points, key=lambda p: p.status, reverse=True)
        ]
        _place_labels(figure, axis, [*((x, y, "source", INK) for x, y in fixed), *labels])
        return _svg(figure, "Accuracy against size")


def _points(judged: Sequence[Judged], scored: bool) -> Iterator[_Point]:
    for one in judged:
        built = one.built
        if not isinstance(built, Built):
            continue
        y = built.score if scored else built.parity.sqnr_db
        if y is not None and math.isfinite(y):
            yield _Point(built.size_bytes, y, short_name(built), one.status)


def short_name(variant: Any) -> str:
    """`w8a8-s50 tflite`: what tells a bundle's variants apart."""
    pruned = f"-s{round(variant.sparsity * 100)}" if variant.sparsity else ""
    return f"{variant.precision}{pruned} {variant.format}"


def _draw_budget(axis: Any, judged: Sequence[Judged], baseline: float, budget: Budget) -> None:
    """What the budget forbids, shaded. Whether a higher score is better shows in how scores and drops are related."""
    pairs = [(j.built.score, j.built.drop) for j in judged if isinstance(j.built, Built)]
    falls = [(baseline - score) * drop < 0 for score, drop in pairs if score is not None and drop is not None]
    lower_is_better = any(falls)
    if budget.max_drop is not None:
        limit = baseline + budget.max_drop if lower_is_better else baseline - budget.max_drop
        far = limit + 1e3 * abs(baseline or 1) * (1 if lower_is_better else -1)
        axis.axhspan(*sorted((limit, far)), color=WARN, alpha=0.10, linewidth=0)
        axis.axhline(limit, color=WARN, linewidth=1)
        axis.annotate(
            f"budget: at most {budget.max_drop:g} worse", (1, limit), xycoords=("axes fraction", "data"), xytext=(-2, 3),
            textcoords="offset points", ha="right", color=WARN, fontsize=8, annotation_clip=True,
        )  # fmt: skip
    if budget.max_size_mb is not None:
        axis.axvline(budget.max_size_mb * 1e6, color=WARN, linewidth=1)
        axis.axvspan(budget.max_size_mb * 1e6, 1e15, color=WARN, alpha=0.10, linewidth=0)


def _fit(axis: Any, points: Sequence[tuple[float, float]]) -> None:
    """Limits around the points with room for labels; a budget far from them stays outside."""
    if not points:
        return
    xs, ys = [x for x, _ in points], [y for _, y in points]
    room = max(math.log(max(xs) / min(xs)), 0.3) * 0.14
    axis.set_xlim(min(xs) * math.exp(-room), max(xs) * math.exp(room))
    height = max(max(ys) - min(ys), 1e-3) * 0.16
    axis.set_ylim(min(ys) - height, max(ys) + height)


def _label_sizes(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: byte_size(size)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def byte_size(size: float) -> str:
    """`22 KB`, `1.3 MB`: powers of ten, two figures at least."""
    for unit, scale in (("MB", 1e6), ("KB", 1e3)):
        if size >= scale:
            value = size / scale
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
    return f"{size:.0f} B"


def _place_labels(figure: Any, axis: Any, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Each label where it hides least: tried around its point, farther with a thin line."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    inside = axis.get_window_extent(renderer)
    dots = [axis.transData.transform((x, y)) for x, y, _, _ in labels]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    taken += [(inside.x0, y - 1.5, inside.x1, y + 1.5) for y in (line.get_window_extent().y0 for line in axis.lines)]
    for (x, y, text, colour), dot in zip(labels, dots, strict=True):
        drawn = axis.annotate(text, (x, y), xytext=(0, 0), textcoords="offset points", fontsize=8.5, color=colour)
        extent = drawn.get_window_extent(renderer)
        box, dx, dy = min(
            _candidates(dot, extent.width, extent.height), key=lambda option: _cost(option, taken, inside)
        )
        drawn.remove()
        far = math.hypot(dx, dy) > 12
        arrow = {"arrowstyle": "-", "color": LINE, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 5} if far else None
        axis.annotate(
            text, (x, y), xytext=(box[0] - dot[0], box[1] - dot[1] + 1.5), textcoords="offset points", fontsize=8.5,
            color=colour, arrowprops=arrow, zorder=4,
        )  # fmt: skip
        taken.append(box)


Box = tuple[float, float, float, float]


def _candidates(dot: Sequence[float], width: float, height: float) -> Iterator[tuple[Box, float, float]]:
    for radius in (8, 17, 28, 40):
        for angle in (0, 90, 270, 180, 45, 315, 135, 225):
            dx, dy = radius * math.cos(math.radians(angle)), radius * math.sin(math.radians(angle))
            left = dot[0] + dx - (0 if dx > 1 else width if dx < -1 else width / 2)
            low = dot[1] + dy - (0 if dy > 1 else height if dy < -1 else height / 2)
            yield (left, low, left + width, low + height), dx, dy


def _cost(option: tuple[Box, float, float], taken: Sequence[Box], inside: Any) -> float:
    box, dx, dy = option
    across = max(0.0, float(inside.x0) - box[0]) + max(0.0, box[2] - float(inside.x1))
    along = max(0.0, float(inside.y0) - box[1]) + max(0.0, box[3] - float(inside.y1))
    return sum(_overlap(box, other) for other in taken) + 50 * (across + along) + 0.5 * math.hypot(dx, dy)


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def latency_picture(report: Report) -> str:
    """The distribution: an ECDF of all samples with its median and 90th percentile, and below it a strip a process."""
    processes = report.processes
    unit, scale = time_unit(report.summary.p50_ns)
    samples = sorted(sample for process in processes for sample in process.samples_ns)
    last = min(samples[-1], percentile(samples, 99) * 1.25)
    with _figure(2.5 + 0.3 * len(processes), (2.2, 0.3 + 0.3 * len(processes))) as (figure, (curve, strips)):
        shares = [(index + 1) / len(samples) for index in range(len(samples))]
        curve.hist([s / scale for s in samples if s <= last], bins=60, color=ACCENT, alpha=0.18, linewidth=0,
                   weights=_histogram_weights(samples, last))  # fmt: skip
        curve.step([s / scale for s in samples], shares, where="post", color=ACCENT, linewidth=1.6)
        for name, value, align in (("p50", report.summary.p50_ns, "right"), ("p90", report.summary.p90_ns, "left")):
            curve.axvline(value / scale, color=INK, linewidth=0.9)
            curve.annotate(
                f"{name} {figures(value / scale)} {unit}", (value / scale, 1.0), xycoords=("data", "axes fraction"),
                xytext=(-4 if align == "right" else 4, 4), textcoords="offset points", ha=align, fontsize=8.5,
            )  # fmt: skip
        low, high = report.summary.p50_interval_ns
        curve.axvspan(low / scale, high / scale, color=INK, alpha=0.15, linewidth=0)
        curve.set_ylim(0, 1.02)
        curve.set_ylabel("share of samples")
        _disown(curve, report, 0.6)
        _strips(strips, processes, scale)
        margin = (last - samples[0]) * 0.04 or samples[0] * 0.05
        strips.set_xlim((samples[0] - margin) / scale, (last + margin) / scale)
        beyond = sum(sample > last for sample in samples)
        more = f" ({beyond} more to the right)" if beyond else ""
        strips.set_xlabel(f"latency of one inference, {unit}{more}")
        return _svg(figure, "Distribution of latencies")


def _histogram_weights(samples: Sequence[int], last: float) -> list[float]:
    """Bars that reach at most 60 % of the height: they show the shape, the curve the shares."""
    import numpy as np

    shown = [sample for sample in samples if sample <= last]
    counts, _ = np.histogram(shown, bins=60)
    return [0.6 / max(1, int(counts.max()))] * len(shown)


def _strips(axis: Any, processes: Sequence[ProcessRun], scale: float) -> None:
    for row, process in enumerate(processes):
        heights = [row + 0.28 * math.sin(2.4 * index) for index in range(len(process.samples_ns))]
        axis.scatter(
            [s / scale for s in process.samples_ns], heights, s=7, color=colour_of(row), alpha=0.55, linewidths=0
        )
    axis.set_yticks(range(len(processes)), [f"process {row + 1}" for row in range(len(processes))])
    axis.set_ylim(len(processes) - 0.5, -0.5)
    axis.grid(visible=False)
    axis.tick_params(axis="y", length=0)


def course_picture(report: Report) -> str:
    """Latency over time: every inference in the order it ran, warm-up hollow, processes one after the other.

    The axis spans the samples; what is far above it (a warm-up run, an outlier) is a triangle at its upper edge.
    """
    unit, scale = time_unit(report.summary.p50_ns)
    samples = sorted(sample for process in report.processes for sample in process.samples_ns)
    bottom = samples[0] * 0.96
    top = min(samples[-1], 2 * percentile(samples, 99)) * 1.06
    with _figure(2.4) as (figure, (axis,)):
        start = 0
        for row, process in enumerate(report.processes):
            times = [*process.warm_ns, *process.samples_ns]
            indices = range(start, start + len(times))
            axis.plot(indices, [time / scale for time in times], color=colour_of(row), linewidth=0.6, alpha=0.4)
            warm = len(process.warm_ns)
            for some, fill in (((0, warm), PAPER), ((warm, len(times)), colour_of(row))):
                _dots(axis, list(zip(indices, times, strict=True))[slice(*some)], top, scale, (fill, colour_of(row)))
            start = indices.stop
            if row + 1 < len(report.processes):
                axis.axvline(start - 0.5, color=LINE, linewidth=1)
        axis.axhline(report.summary.p50_ns / scale, color=INK, linewidth=0.8)
        axis.set_xlim(-1, start)
        axis.set_ylim(bottom / scale, top / scale)
        axis.grid(visible=False, axis="x")
        axis.set_xlabel("inference, in the order they ran (hollow: warm-up; triangles: above the axis)")
        axis.set_ylabel(unit)
        _disown(axis, report)
        return _svg(figure, "Latency over time")


def _dots(axis: Any, runs: Sequence[tuple[int, int]], top: float, scale: float, colours: tuple[str, str]) -> None:
    fill, edge = colours
    for marker, size, shown in (
        ("o", 9, [run for run in runs if run[1] <= top]),
        ("^", 22, [(index, top * 0.985) for index, time in runs if time > top]),
    ):
        axis.scatter([index for index, _ in shown], [time / scale for _, time in shown], marker=marker, s=size,
                     facecolors=fill, edgecolors=edge, linewidths=0.7, zorder=3)  # fmt: skip


def _disown(axis: Any, report: Report, height: float = 0.95) -> None:
    """A picture may be cut out of its page: where its numbers are no device's, it says so itself."""
    if report.validity.verdict == "invalid":
        axis.text(0.99, height, "not a device latency", transform=axis.transAxes, ha="right", va="top", color=BAD,
                  fontsize=11, fontweight="bold", alpha=0.75, zorder=5)  # fmt: skip


def time_unit(ns: float) -> tuple[str, float]:
    """The unit that suits a latency, and how many ns it has."""
    return ("ms", 1e6) if ns >= 1e5 else ("µs", 1e3)


def figures(value: float) -> str:
    """Three significant figures, trailing zeros kept: `9.50`, `12.3`, `1234`."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits)}f}"


def colour_of(process: int) -> str:
    return PROCESSES[process % len(PROCESSES)]


def standalone(svg: str) -> str:
    """A picture as an SVG file of its own: with the page's colours, light and dark, and its own paper, for a README.

    The paper matters where the page around it is dark and the reader's system light, or the other way round.
    """
    style = resources.files("edgepack.reports").joinpath("style.css").read_text("utf-8")
    colours = style[: style.index("* {")].replace("color-scheme: light dark;", "")
    own = "svg { background: var(--paper); } text { font-family: system-ui, sans-serif !important; }"
    return svg.replace("</title>", f"</title><style>{colours}{own}</style>", 1) + "\n"
