"""Pictures of passes beside the headline: a load without a pause, minute by minute, and what threads bring."""

from __future__ import annotations

from edgepack.report import Report
from edgepack.reports.drawing import (
    ACCENT,
    BAD,
    GOOD,
    MUTED,
    PAPER,
    Picture,
    doubt,
    panels,
    picture,
    said,
    sheet,
    svg,
    time_unit,
)
from edgepack.reports.timing import doubt_of


def sustained_picture(report: Report) -> Picture:
    """Median and 90th percentile of every minute of a sustained load, with temperature and clock."""
    return picture("Latency minute by minute under sustained load", lambda width: _sustained(report, width))


def _sustained(report: Report, width: int) -> str:
    minutes = report.sustained
    unit, scale = time_unit(report.summary.p50_ns)
    warm = [each for each in minutes if each.temperature_c is not None]
    clocked = [each for each in minutes if each.mhz]
    rows = [150, *([64] if warm else []), *([64] if clocked else [])]
    with sheet(width, sum(rows) + 40, rows) as (figure, axes):
        top = axes[0]
        at = [each.minute + 1 for each in minutes]
        for name, values, colour, side in (
            ("p90", [each.p90_ns / scale for each in minutes], MUTED, "bottom"),
            ("p50", [each.p50_ns / scale for each in minutes], ACCENT, "top"),
        ):
            top.plot(at, values, color=colour, linewidth=1.8, marker="o", markersize=4)
            top.annotate(name, (at[-1], values[-1]), xytext=(6, 0), textcoords="offset points", va=side, color=colour)
        top.set_ylim(0, max(each.p90_ns for each in minutes) / scale * 1.12)
        top.set_ylabel(unit)
        if warm:
            axes[1].plot(
                [e.minute + 1 for e in warm],
                [e.temperature_c for e in warm],
                color=BAD,
                linewidth=1.8,
                marker="o",
                markersize=3,
            )
            axes[1].margins(y=0.2)
            axes[1].set_ylabel("°C")
        if clocked:
            highs = [max(each.mhz) for each in clocked]
            axes[-1].plot([e.minute + 1 for e in clocked], highs, color=GOOD, linewidth=1.8, marker="o", markersize=3)
            axes[-1].set_ylim(0, max(highs) * 1.15)
            axes[-1].set_ylabel("MHz")
        axes[-1].set_xlabel("minute")
        axes[-1].xaxis.get_major_locator().set_params(integer=True)
        top.set_xlim(0.6, at[-1] + 0.6 + 0.03 * len(at))
        for axis in axes:
            axis.grid(visible=False, axis="x")
        doubt(top, doubt_of(report), 0.3)
        figure.align_ylabels(axes)
        return svg(figure)


def threads_picture(report: Report) -> Picture:
    """Median with its interval and 90th percentile against threads; beside it throughput and what perfect scaling would give."""
    return picture("Latency and throughput against the number of threads", lambda width: _threads(report, width))


def _threads(report: Report, width: int) -> str:
    points = sorted(report.sweep, key=lambda point: point.threads)
    unit, scale = time_unit(points[0].p50_ns)
    at = [point.threads for point in points]
    with panels(width, 230, 2) as (figure, (latency, throughput)):
        latency.plot(
            at, [point.p90_ns / scale for point in points], color=MUTED, linewidth=1.2, marker="_", markersize=9
        )
        middle = [point.p50_ns / scale for point in points]
        below = [m - point.interval_ns[0] / scale for m, point in zip(middle, points, strict=True)]
        above = [point.interval_ns[1] / scale - m for m, point in zip(middle, points, strict=True)]
        latency.errorbar(at, middle, yerr=(below, above), color=ACCENT, linewidth=1.8, capsize=4, zorder=3)
        said(latency, "p50 with its interval", (0.98, 0.97), ACCENT, ha="right", va="top")
        said(latency, "p90", (0.98, 0.87), ha="right", va="top")
        latency.set_ylabel(f"latency, {unit}")
        rates = [point.throughput_per_s for point in points]
        ideal = [rates[0] * threads / at[0] for threads in at]
        throughput.plot(at, ideal, color=MUTED, linewidth=1.2, linestyle=(0, (2, 3)))
        throughput.plot(at, rates, color=ACCENT, linewidth=1.8, zorder=3)
        said(throughput, "dotted: perfect scaling", (0.98, 0.04), ha="right")
        throughput.set_ylabel("inferences per second")
        for axis, values in ((latency, middle), (throughput, rates)):
            for point, value in zip(points, values, strict=True):
                trusted = point.verdict == "valid"
                axis.plot([point.threads], [value], marker="o", markersize=7, markeredgecolor=ACCENT, markeredgewidth=1.8,
                          markerfacecolor=ACCENT if trusted else PAPER, zorder=4)  # fmt: skip
            axis.set_xticks(at)
            axis.set_xlim(at[0] - 0.5, at[-1] + 0.5)
            axis.set_xlabel("threads")
            axis.grid(visible=False, axis="x")
        latency.set_ylim(0, max(point.p90_ns for point in points) / scale * 1.2)
        throughput.set_ylim(0, max(rates) * 1.25)
        doubt(latency, doubt_of(report), 0.15)
        return svg(figure)
