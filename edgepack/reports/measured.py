"""What a board measured: whether that can be trusted, under which conditions, the numbers, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgepack.report import Conditions, Report
from edgepack.reports import html, passes
from edgepack.reports.drawing import byte_size, duration, figures
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.reports.timing import MOST_DOTS, course_picture, latency_picture
from edgepack.stats import percentile

RUNS_WITH_ALL, RUNS_WITH_ONE = 5, 15
"""Runs on a page that have all their pictures, and those that have the one over time."""
_DOTS_OF_A_PAGE = 4 * MOST_DOTS
_STAND_INS = {
    "emulated": "emulated by QEMU",
    "machine": "a whole machine emulated by QEMU",
    "loopback": "loopback",
}


def verdict(report: Report) -> Markup:
    """The banner: comes before any number."""
    reasons = [*report.validity.reasons, *report.notes]
    listed = [element("ul", *(element("li", reason) for reason in reasons))] if reasons else []
    headline = element("strong", _headline(report))
    return element("div", headline, *listed, kind=f"banner {report.validity.verdict}", attributes={"role": "note"})


def _headline(report: Report) -> str:
    match report.validity.verdict:
        case "valid":
            return "Valid: nothing speaks against these latencies"
        case "suspect":
            return "Suspect: take these latencies with care"
        case "invalid":
            return f"Invalid: {'not a device latency' if emulated(report) else 'do not rely on these latencies'}"


def emulated(report: Report) -> bool:
    return str(report.device.get("board")) in ("emulated", "machine")


def device(report: Report) -> str:
    kind = str(report.device.get("board") or "")
    model = str(report.device.get("board_model") or report.device.get("cpu_model") or report.run_context.target)
    return {
        "emulated": f"an emulated {model}",
        "machine": f"an emulated machine ({model})",
        "loopback": "this machine (a loopback board)",
    }.get(kind, model)


def cards(report: Report) -> list[Markup]:
    """The headline numbers."""
    summary, doubtful = report.summary, report.validity.verdict == "invalid"
    where = f"on {device(report)}" + (", no device’s latency" if emulated(report) else "")
    peak = max(process.vmhwm_kb for process in report.processes)
    own = max(process.vmhwm_kb - process.baseline_kb for process in report.processes)
    tiles = [
        html.card(duration(summary.p50_ns), f"median {where}; 95 % interval {passes.between(summary.p50_interval_ns)}", doubtful),
        html.card(duration(summary.p90_ns), f"90th percentile; 99th {duration(summary.p99_ns)}", doubtful),
        html.card(f"{peak * 1.024e-3:.0f} MB", f"peak memory, {own * 1.024e-3:.1f} MB above the runtime’s own"),
    ]  # fmt: skip
    if report.energy is not None:
        joules = report.energy.joules_per_inference
        tiles.append(
            html.card(
                f"{figures(joules * 1e3)} mJ", f"per inference, {report.energy.watts:.2f} W: {report.energy.source}"
            )
        )
    return tiles


def conditions(report: Report) -> Markup:
    """What the board said of itself, from before the run to after it, in a line or two."""
    before, after = report.run_context.before, report.run_context.after
    blocks = [block for process in report.processes for block in process.blocks]
    heats = [b.temperature_c for b in blocks if b.temperature_c is not None]
    clocks = [min(b.mhz) for b in blocks if b.mhz] + [max(b.mhz) for b in blocks if b.mhz]
    told = [
        ("governor", _course(before.governor, after.governor)),
        ("clock", _range(clocks or [*before.mhz, *after.mhz], "{:d} MHz")),
        ("temperature", _range([*_some(before.temperature_c), *heats, *_some(after.temperature_c)], "{:.1f} °C")),
        ("throttled", _throttling(before, after)),
        ("load", _course(*(None if c.load_1m is None else f"{c.load_1m:.2f}" for c in (before, after)))),
        ("threads", str(report.runtime.threads)),
        ("runtime", f"{report.runtime.name} {report.runtime.version}"),
    ]
    missing = ["throttling" if name == "throttled" else name for name, value in told if not value]
    silent = element("p", f"The board does not tell its {_listed(missing)}.", kind="note") if missing else html.NOTHING
    return html.join([html.chips([(name, value) for name, value in told if value]), silent])


def _some(value: float | None) -> list[float]:
    return [] if value is None else [value]


def _course(before: str | None, after: str | None) -> str:
    return (before or after or "") if before == after or not (before and after) else f"{before} → {after}"


def _range(values: Iterable[float], form: str) -> str:
    known = list(values)
    if not known:
        return ""
    low, high = form.format(min(known)), form.format(max(known))
    return high if low == high else f"{low.split(' ')[0]} – {high}"


def _throttling(before: Conditions, after: Conditions) -> str:
    if before.throttled is None and after.throttled is None:
        return ""
    was, now = before.throttled or 0, after.throttled or 0
    if (was | now) & 0xF or (now & ~was) >> 16:
        return "yes"
    return "no" if not now >> 16 else "not during the run, before it since boot"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def overview(reports: Sequence[Report]) -> Markup:
    """A line a run, its verdict first."""
    rows: list[list[Content]] = [
        [
            passes.mark(report.validity.verdict),
            element("a", _run(report), attributes={"href": f"#run-{number}"}),
            report.run_context.target,
            duration(report.summary.p50_ns),
            passes.between(report.summary.p50_interval_ns),
            duration(report.summary.p90_ns),
            f"{max(process.vmhwm_kb for process in report.processes) * 1.024e-3:.0f} MB",
        ]
        for number, report in enumerate(reports, 1)
    ]
    numbers = ("p50", "95 % interval", "p90", "memory")
    columns = [Column("verdict"), Column("run", "name"), Column("board"), *(Column(n, "number") for n in numbers)]
    table = html.table("All runs", columns, rows, heads=1)
    if len(reports) <= RUNS_WITH_ALL:
        return table
    few = f"So many runs have fewer pictures: up to {RUNS_WITH_ALL} have all of them. The numbers are all there."
    return html.join([table, element("p", few, kind="note")])


def _run(report: Report) -> str:
    """`1.0.0 w8a8-s50.tflite`, with threads where there are several: what tells the runs of a page apart."""
    threads = f", {report.runtime.threads} threads" if report.runtime.threads > 1 else ""
    return f"{report.bundle.version} {'.'.join(report.variant.split('.')[-2:])}{threads}"


def chapter(report: Report, number: int, of: int) -> Markup:
    """All of one run. of: how many runs the page has; what is at the page's top for the only one is here for each of several."""
    where = f"{report.run_context.target}: {device(report)}"
    title = f"Measured on {where}" if of == 1 else f"{_run(report)} on {where}"
    top = [verdict(report), conditions(report), html.cards(cards(report))] if of > 1 else []
    return html.join(
        [
            element("h2", title, attributes={"id": f"run-{number}"}),
            *top,
            element(
                "p",
                element("code", report.variant),
                f" in {report.runtime.name} {report.runtime.version}. {_how(report)}",
            ),
            *_pictures(report, of),
            *passes.sustained(report, drawn=of <= RUNS_WITH_ALL),
            *passes.sweep(report, drawn=of <= RUNS_WITH_ALL),
            *passes.operators(report, drawn=of <= RUNS_WITH_ALL),
            element("h3", "Processes"),
            _processes(report),
            *passes.cold(report),
            *passes.scenario(report),
            *passes.accuracy(report),
            element("h3", "Conditions before and after"),
            _conditions(report.run_context.before, report.run_context.after),
            html.folded("The board, in full", _facts(report)),
        ]
    )


def _pictures(report: Report, of: int) -> list[Markup]:
    """Fewer on a page of many runs, which would grow beyond what a phone likes to load."""
    most = max(300, min(MOST_DOTS, _DOTS_OF_A_PAGE // of))
    if of > RUNS_WITH_ONE:
        return []
    course = [element("h3", "Latency over time"), html.figure(course_picture(report, most), _course_caption(report))]
    if of > RUNS_WITH_ALL:
        return course
    distribution = html.figure(latency_picture(report, most), _distribution_caption(report, most))
    return [*course, element("h3", "Distribution"), distribution]


def _how(report: Report) -> str:
    protocol, count = report.protocol, report.runtime.threads
    inputs = "golden samples" if protocol.inputs == "golden" else "seeded noise"
    return (
        f"{len(report.processes)} fresh processes, {report.summary.count} timed inferences in all, "
        f"{count} thread{'s' if count > 1 else ''}, {inputs} as input, timed on the board."
    )


def _course_caption(report: Report) -> str:
    blocks = [block for process in report.processes for block in process.blocks]
    silent = [
        name
        for name, told in (
            ("temperature", any(block.temperature_c is not None for block in blocks)),
            ("clock", any(block.mhz for block in blocks)),
        )
        if not told
    ]
    missing = f" The board did not tell its {_listed(silent)} while it ran." if silent else ""
    return (
        "Every process in its colour: hollow is warm-up, a triangle lies above the axis. "
        f"A slope is drift, a step is throttling, two bands are two modes.{missing}"
    )


def _distribution_caption(report: Report, most: int) -> str:
    count = report.summary.count
    drawn = f" Of {count} samples some {most} are drawn as dots, the slowest all." if count > most else ""
    return (
        "The line: share of samples at or below a latency; bars show the shape. "
        f"Shaded: the median’s 95 % interval, {passes.between(report.summary.p50_interval_ns)}.{drawn}"
    )


def _processes(report: Report) -> Markup:
    rows: list[list[Content]] = [
        [
            str(number),
            duration(one.import_ns),
            duration(one.load_ns),
            duration(one.first_ns),
            duration(percentile(sorted(one.samples_ns), 50)),
            str(len(one.samples_ns)),
            f"{one.vmhwm_kb * 1.024e-3:.1f} MB",
            f"{(one.vmhwm_kb - one.baseline_kb) * 1.024e-3:.1f} MB",
        ]
        for number, one in enumerate(report.processes, 1)
    ]
    titles = ("process", "import", "load", "first inference", "median", "samples", "peak memory", "above the runtime’s")
    return html.table(
        "Processes", [Column(title, "number" if place else "") for place, title in enumerate(titles)], rows
    )


def _conditions(before: Conditions, after: Conditions) -> Markup:
    """What a board does not tell is said for what matters most, and left out for the rest."""
    rows: list[list[Content]] = [
        [name, was or "not told", now or "not told"]
        for (name, needed, was), (_, _, now) in zip(_told(before), _told(after), strict=True)
        if needed or was or now
    ]
    return html.table("Conditions", [Column("condition"), Column("before"), Column("after")], rows)


def _told(said: Conditions) -> list[tuple[str, bool, str]]:
    """Name, whether it is missed where it is not told, value."""
    free, cache = said.memory_available_kb, said.page_cache_kb
    return [
        ("CPU governor", True, ", ".join(said.governors) or said.governor or ""),
        ("clock of each core, MHz", True, ", ".join(map(str, said.mhz))),
        ("clock’s limits, MHz", False, " – ".join(map(str, said.mhz_limits))),
        ("temperature", True, "" if said.temperature_c is None else f"{said.temperature_c:.1f} °C"),
        ("throttling bits", True, "" if said.throttled is None else f"{said.throttled:#x}"),
        ("undervoltage", False, "" if said.undervoltage is None else "yes" if said.undervoltage else "no"),
        ("power", False, said.power or ""),
        ("load, 1 minute", True, "" if said.load_1m is None else f"{said.load_1m:.2f}"),
        ("memory free", True, "" if free is None else byte_size(free * 1024)),
        ("files in memory", False, "" if cache is None else byte_size(cache * 1024)),
        ("pages swapped since boot", False, "" if said.swapped_pages is None else str(said.swapped_pages)),
    ]


def _facts(report: Report) -> Markup:
    told = report.device
    memory = told.get("memory_kb")
    return html.facts(
        [
            ("board", str(told.get("board_model", ""))),
            ("stand-in", _STAND_INS.get(str(told.get("board", "")), "")),
            ("CPU", " ".join(str(told.get(key, "")) for key in ("cpu_model", "cpu_part")).strip()),
            ("instruction set", " ".join(map(str, told.get("cpu_features", ())))),
            ("machine", f"{told.get('machine', '')}, {told.get('cores', '?')} cores" if told.get("machine") else ""),
            ("memory", byte_size(memory * 1024) if isinstance(memory, int) else ""),
            ("system", f"{told.get('os', '')}, kernel {told.get('kernel', '')}" if told.get("os") else ""),
            ("C library", f"{told.get('libc', '')} {told.get('libc_version', '')}".strip()),
            ("Python", str(told.get("python", ""))),
            ("runtime", f"{report.runtime.name} {report.runtime.version}"),
            ("runtime lock", report.runtime.lock or "none: the system provides it"),
            ("cost of timing", f"{report.harness_overhead_ns} ns a sample"),
            ("bundle", f"{report.bundle.name} {report.bundle.version}, {report.bundle.digest}"),
            ("measured", f"{report.run_context.started}, edgepack {report.run_context.edgepack}"),
        ]
    )  # fmt: skip
