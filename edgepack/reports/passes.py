"""What a run measured in passes of their own, beside its headline: each a heading, a picture where one helps, a table."""

from __future__ import annotations

from edgepack.report import Report, Verdict
from edgepack.reports import html
from edgepack.reports.drawing import duration, figures, metric_name, time_unit
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.reports.sweeps import sustained_picture, threads_picture
from edgepack.reports.treemap import colour_of, kinds, operators_picture


def mark(given: Verdict) -> Markup:
    return element("span", given, kind=f"mark {given}")


def between(ends: tuple[int, int]) -> str:
    """`0.4295 … 0.4301 ms`: a figure more than a value has, or both ends would often look the same."""
    unit, scale = time_unit(ends[0])
    return f"{ends[0] / scale:.4g} … {ends[1] / scale:.4g} {unit}"


def sustained(report: Report, drawn: bool = True) -> list[Markup]:
    if not report.sustained:
        return []
    rows: list[list[Content]] = [
        [
            str(each.minute + 1),
            duration(each.p50_ns),
            duration(each.p90_ns),
            "–" if each.temperature_c is None else f"{each.temperature_c:.1f} °C",
            f"{max(each.mhz)} MHz" if each.mhz else "–",
        ]
        for each in report.sustained
    ]
    columns = [Column("minute"), *(Column(name, "number") for name in ("p50", "p90", "temperature", "clock"))]
    table = html.table("Sustained load", columns, rows)
    if len(rows) == 1 or not drawn:
        return [element("h3", "Under sustained load"), table]
    return [
        element("h3", "Under sustained load"),
        html.figure(
            sustained_picture(report), "One load without a pause. What minute one shows need not hold at the end."
        ),
        html.folded(f"The {len(rows)} minutes as numbers", table),
    ]


def sweep(report: Report, drawn: bool = True) -> list[Markup]:
    if not report.sweep:
        return []
    rows: list[list[Content]] = [
        [
            str(point.threads),
            mark(point.verdict),
            duration(point.p50_ns),
            between(point.interval_ns),
            duration(point.p90_ns),
            f"{figures(point.throughput_per_s)} / s",
        ]
        for point in sorted(report.sweep, key=lambda point: point.threads)
    ]
    numbers = ("p50", "95 % interval", "p90", "throughput")
    columns = [Column("threads"), Column("verdict"), *(Column(name, "number") for name in numbers)]
    hollow = "Hollow: that number of threads was not measured validly; the table says how."
    return [
        element("h3", "Threads"),
        *([html.figure(threads_picture(report), hollow)] if drawn else []),
        html.table("Threads", columns, rows),
    ]


def operators(report: Report, drawn: bool = True) -> list[Markup]:
    if not any(op.ns > 0 for op in report.ops):
        return []
    grouped = kinds(report.ops)
    total = sum(kind.ns for kind in grouped)
    sums: list[list[Content]] = [
        [_swatch(row, k.name), str(sum(op.calls for op in k.ops)), duration(k.ns), _share(k.ns / total)]
        for row, k in enumerate(grouped)
    ]
    ordered = sorted(report.ops, key=lambda op: -op.ns)
    each: list[list[Content]] = [[op.name, op.kind, str(op.calls), duration(op.ns), _share(op.share)] for op in ordered]
    numbers = [Column(name, "number") for name in ("calls", "time", "share")]
    every = html.table("Operators", [Column("operator", "reason"), Column("kind"), *numbers], each)
    apart = "From a pass of its own with the runtime’s profiler on, which costs time: shares, not the latency above."
    return [
        element("h3", "Operators"),
        *([html.figure(operators_picture(report.ops), apart)] if drawn else []),
        html.table("Kinds of operators", [Column("kind"), *numbers], sums),
        html.folded(f"All {len(each)} operators", every) if len(each) <= 2000 else html.NOTHING,
    ]


def _swatch(row: int, name: str) -> Markup:
    swatch = element("i", "", kind=f"swatch {colour_of(row)}", attributes={"aria-hidden": "true"})
    return element("span", swatch, element("span", name), kind="kind")


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


def cold(report: Report) -> list[Markup]:
    cold = report.cold
    if cold is None:
        return []
    whole = cold.import_ns + cold.load_ns + cold.first_ns
    cache = "files not in memory" if cold.page_cache == "cold" else "files still in memory"
    tiles = [
        html.card(duration(whole), f"from a fresh process to the first answer, {cache}"),
        html.card(duration(cold.import_ns), "import of the runtime"),
        html.card(duration(cold.load_ns), "load of the model"),
        html.card(duration(cold.first_ns), "first inference"),
    ]
    note = [element("p", cold.note, kind="note")] if cold.note else []
    return [element("h3", "Cold start"), html.cards(tiles), *note]


def scenario(report: Report) -> list[Markup]:
    """A load as LoadGen makes it: whether its result counts before what it is."""
    found = report.scenario
    if found is None:
        return []
    met = "The result counts." if found.met else "The result does not count."
    banner = element(
        "div",
        element("strong", met),
        *([element("ul", *(element("li", reason) for reason in found.reasons))] if found.reasons else []),
        kind=f"banner {'valid' if found.met else 'invalid'}",
        attributes={"role": "note"},
    )
    stopping = found.early_stopping
    doubtful = not found.met
    load = f"samples; {found.samples} in {found.taken_s:.1f} s"
    tiles = [html.card(f"{figures(found.throughput_per_s)} / s", load, doubtful)]
    if found.percentile_ns is not None:
        name = "" if stopping is None else f"{100 * stopping.percentile:g}th "
        tiles.append(html.card(duration(found.percentile_ns), f"{name}percentile of {found.queries} queries", doubtful))
    if stopping is not None and stopping.estimate_ns is not None:
        sure = "what that stays below, by early stopping at 99 % confidence"
        tiles.append(html.card(duration(stopping.estimate_ns), sure, doubtful))
    if found.target_latency_ns is not None:
        aim = f"latency aimed at, {found.load.target_qps:g} queries a second"
        tiles.append(html.card(duration(found.target_latency_ns), aim))
    return [element("h3", f"Under load: {found.kind}, {found.style}"), banner, html.cards(tiles)]


def accuracy(report: Report) -> list[Markup]:
    """Known samples, answered on the board and on the host."""
    found = report.accuracy
    if found is None:
        return []
    agreed = "–" if found.agreement is None else f"{100 * found.agreement:.2f} %"
    kept = "within" if found.within else "beyond"
    said = (
        f"{found.samples} of {found.available} samples of {found.data}. Same answer: {agreed}; "
        f"largest difference of an output: {found.max_abs:.3g}, {kept} the bundle’s tolerance."
    )
    rows: list[list[Content]] = [
        [metric_name(found.metric), f"{found.host:.4f}", f"{found.board:.4f}"],
        ["runtime", found.host_runtime, found.board_runtime],
    ]
    lines: list[list[Content]] = [[str(d.index), str(d.label), str(d.host), str(d.board)] for d in found.differences]
    columns = [
        Column(name, "number" if place else "") for place, name in enumerate(("sample", "label", "host", "board"))
    ]
    which = html.folded(
        f"Samples that differ: {len(lines)} of {found.differing}", html.table("Samples that differ", columns, lines)
    )
    return [
        element("h3", "Accuracy on the board"),
        element("p", said),
        html.table("Accuracy", [Column("measure"), Column("host"), Column("board")], rows, heads=0),
        *([which] if lines else []),
    ]
