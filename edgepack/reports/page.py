"""One self-contained page: what was built, what was rejected and why, what a board measured and whether that can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from edgepack.manifest import Manifest
from edgepack.report import Conditions, Report
from edgepack.reports import html, pictures
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.reports.pictures import byte_size, figures, short_name, time_unit
from edgepack.variant import Built, Judged, Parity

_VERDICTS = {
    "invalid": "Not a device latency",
    "suspect": "Take these latencies with care",
    "valid": "Nothing speaks against these latencies",
}


def render(
    manifest: Manifest,
    judged: Sequence[Judged],
    baseline: float | None,
    source_bytes: int,
    reports: Sequence[Report] = (),
) -> str:
    """The page of one bundle as one HTML file that loads nothing: light and dark, phone and print.

    judged: every variant that was tried; baseline: the source's score, None where it was not scored; reports: of its boards
    Raises UsageError where matplotlib is not installed.
    """
    parts = [
        _head(manifest, judged, baseline, source_bytes, reports),
        _variants(manifest, judged, baseline, source_bytes),
        _rejected(judged),
        *(_board(report) for report in reports),
        _bundle(manifest, reports),
    ]
    title = f"{manifest.name} {manifest.version} for {manifest.profile.name}"
    return _document(title, html.join(parts))


def _document(title: str, body: Markup) -> str:
    style = resources.files("edgepack.reports").joinpath("style.css").read_text("utf-8")
    footer = element("footer", "Written by edgepack. This page is one file and loads nothing.")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"{element('title', title).text}\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        f"{body.text}\n{footer.text}\n</main>\n</body>\n</html>\n"
    )


def _head(
    manifest: Manifest, judged: Sequence[Judged], baseline: float | None, source_bytes: int, reports: Sequence[Report]
) -> Markup:
    heading = element("h1", manifest.name, " ", element("small", f"{manifest.version} for {manifest.profile.name}"))
    default = next((j.built for j in judged if isinstance(j.built, Built) and j.status == "selected"), None)
    counts = {status: sum(j.status == status for j in judged) for status in ("selected", "kept", "rejected")}
    lead = element(
        "p",
        f"{len(judged)} variants were tried: {counts['selected'] + counts['kept']} are in the bundle, "
        f"{counts['rejected']} were rejected. ",
        *((element("code", default.id), " is the default.") if default else ("None met the budget.",)),
        kind="lead",
    )
    tiles = []
    if default:
        ratio = source_bytes / default.size_bytes
        times = f"{ratio:.1f} × smaller" if ratio >= 1 else f"{1 / ratio:.1f} × larger"
        tiles.append(html.card(byte_size(default.size_bytes), f"{times} than the source, {byte_size(source_bytes)}"))
        if default.score is not None and baseline is not None:
            tiles.append(html.card(f"{default.score:.4g}", f"{manifest.metric}; the source has {baseline:.4g}"))
    for report in reports[:1]:
        tiles += _latency_cards(report)
    return html.join([heading, lead, html.cards(tiles)])


def _latency_cards(report: Report) -> list[Markup]:
    unit, scale = time_unit(report.summary.p50_ns)
    doubtful = report.validity.verdict == "invalid"
    where = f"on {_device(report)}" if not doubtful else f"on {_device(report)}, no device's latency"
    peak = max(process.vmhwm_kb for process in report.processes)
    own = max(process.vmhwm_kb - process.baseline_kb for process in report.processes)
    return [
        html.card(f"{figures(report.summary.p50_ns / scale)} {unit}", f"median latency {where}", doubtful),
        html.card(f"{peak * 1.024e-3:.0f} MB", f"peak memory, {own * 1.024e-3:.1f} MB above the runtime's own"),
    ]


def _device(report: Report) -> str:
    kind = str(report.device.get("board") or "")
    model = str(report.device.get("board_model") or report.device.get("cpu_model") or report.run_context.target)
    return {
        "emulated": f"an emulated {model}",
        "machine": f"an emulated machine ({model})",
        "loopback": "this machine (a loopback board)",
    }.get(kind, model)


def _variants(manifest: Manifest, judged: Sequence[Judged], baseline: float | None, source_bytes: int) -> Markup:
    picture = pictures.size_picture(judged, baseline, source_bytes, manifest.metric, manifest.gates)
    rows = [_variant_row(one) for one in sorted(judged, key=_place)]
    measures = (manifest.metric or "score", "drop", "SQNR, dB", "max. error")
    columns = [
        Column("variant", "name"),
        Column("verdict"),
        *(Column(title, "number") for title in ("size", *measures)),
    ]
    return html.join(
        [
            element("h2", "Accuracy against size"),
            html.figure(picture, _caption(manifest)),
            html.table(columns, rows),
        ]
    )


def _caption(manifest: Manifest) -> Markup:
    budget = manifest.gates
    limits = [
        f"at most {budget.max_drop:g} worse than the source" if budget.max_drop is not None else "",
        f"at most {byte_size(budget.max_size_mb * 1e6)}" if budget.max_size_mb is not None else "",
        f"p90 at most {budget.max_p90_ms:g} ms where measured" if budget.max_p90_ms is not None else "",
        f"memory at most {budget.max_memory_mb:g} MB where measured" if budget.max_memory_mb is not None else "",
    ]
    marks = [element("span", status, kind=f"mark {status}") for status in ("selected", "kept", "rejected")]
    spaced = [part for mark in marks for part in (mark, Markup(", "))]
    budgets = "; ".join(limit for limit in limits if limit) or "none"
    return element("span", *spaced, f"◇ the source. Budget: {budgets}.")


def _place(one: Judged) -> tuple[int, float]:
    order = ("selected", "kept", "rejected").index(one.status)
    return order, one.built.size_bytes if isinstance(one.built, Built) else float("inf")


def _variant_row(one: Judged) -> list[Content]:
    built, verdict = one.built, element("span", one.status, kind=f"mark {one.status}")
    if not isinstance(built, Built):
        return [short_name(built), verdict, "–", "–", "–", *_parity_cells(built.parity)]
    return [
        short_name(built),
        verdict,
        byte_size(built.size_bytes),
        "–" if built.score is None else f"{built.score:.4f}",
        "–" if built.drop is None else f"{built.drop:+.4f}".replace("-", "−"),
        *_parity_cells(built.parity),
    ]


def _parity_cells(parity: Parity | None) -> list[Content]:
    return ["–", "–"] if parity is None else [f"{parity.sqnr_db:.1f}", f"{parity.max_abs:.2g}"]


def _rejected(judged: Sequence[Judged]) -> Markup:
    rejected = [one for one in judged if one.status == "rejected"]
    heading = element("h2", "What was rejected, and why")
    if not rejected:
        return html.join([heading, element("p", "Nothing: every variant met the budget and was worth keeping.")])
    rows: list[list[Content]] = [[short_name(one.built), one.reason] for one in rejected]
    return html.join([heading, html.table([Column("variant", "name"), Column("reason", "reason")], rows)])


def _board(report: Report) -> Markup:
    summary = report.summary
    unit, scale = time_unit(summary.p50_ns)
    low, high = summary.p50_interval_ns
    protocol = report.protocol
    how = (
        f"{len(report.processes)} fresh processes, {protocol.warmup} warm-up runs and up to {protocol.samples} timed ones each, "
        f"{report.runtime.threads} thread{'s' if report.runtime.threads > 1 else ''}, "
        f"{'golden samples' if protocol.inputs == 'golden' else 'seeded noise'} as input, timed on the board."
    )
    percentiles = [(f"p{n}", value) for n, value in ((50, summary.p50_ns), (90, summary.p90_ns), (99, summary.p99_ns))]
    tiles = [
        html.card(f"{figures(value / scale)} {unit}", name, report.validity.verdict == "invalid")
        for name, value in percentiles
    ]
    distribution = (
        "Above: share of samples at or below a latency, the median's 95 % interval shaded; bars show the shape. "
    )
    return html.join(
        [
            element("h2", f"Measured on {report.run_context.target}: {_device(report)}"),
            element("p", element("code", report.variant), f" in {report.runtime.name} {report.runtime.version}. {how}"),
            _banner(report),
            html.cards(tiles),
            html.figure(
                pictures.latency_picture(report),
                f"{distribution}The median lies between {low / scale:.4g} and {high / scale:.4g} {unit}.",
            ),
            html.figure(
                pictures.course_picture(report), "A slope is drift, a step is throttling, two bands are two modes."
            ),
            element("h3", "Processes"),
            _processes(report),
            element("h3", "Conditions"),
            _conditions(report.run_context.before, report.run_context.after),
            element("h3", "Board"),
            _facts(report),
        ]
    )


def _banner(report: Report) -> Markup:
    reasons = [*report.validity.reasons, *report.notes]
    listed = [element("ul", *(element("li", reason) for reason in reasons))] if reasons else []
    return element(
        "div", element("strong", _VERDICTS[report.validity.verdict]), *listed, kind=f"banner {report.validity.verdict}"
    )


def _processes(report: Report) -> Markup:
    unit, scale = time_unit(report.summary.p50_ns)
    rows: list[list[Content]] = [
        [
            str(number),
            f"{one.import_ns / 1e6:.0f} ms",
            f"{one.load_ns / 1e6:.1f} ms",
            f"{figures(one.first_ns / scale)} {unit}",
            f"{figures(sorted(one.samples_ns)[(len(one.samples_ns) - 1) // 2] / scale)} {unit}",
            f"{one.vmhwm_kb * 1.024e-3:.1f} MB",
            f"{(one.vmhwm_kb - one.baseline_kb) * 1.024e-3:.1f} MB",
        ]
        for number, one in enumerate(report.processes, 1)
    ]
    titles = ("process", "import", "load", "first inference", "median", "peak memory", "above the runtime's")
    return html.table([Column(title, "number") for title in titles], rows)


def _conditions(before: Conditions, after: Conditions) -> Markup:
    rows: list[list[Content]] = [
        list(row) for row in zip(_CONDITIONS, _condition_cells(before), _condition_cells(after), strict=True)
    ]
    return html.table([Column(""), Column("before"), Column("after")], rows)


_STAND_INS = {
    "emulated": "emulated by QEMU",
    "machine": "a whole machine emulated by QEMU",
    "loopback": "loopback",
}
_CONDITIONS = (
    "CPU governor",
    "clock of each core, MHz",
    "temperature",
    "throttling bits",
    "load, 1 minute",
    "memory free",
)


def _condition_cells(told: Conditions) -> list[str]:
    free = told.memory_available_kb
    cells = [
        told.governor,
        ", ".join(map(str, told.mhz)),
        None if told.temperature_c is None else f"{told.temperature_c:.1f} °C",
        None if told.throttled is None else f"{told.throttled:#x}",
        None if told.load_1m is None else f"{told.load_1m:.2f}",
        None if free is None else byte_size(free * 1024),
    ]
    return [cell or "not told" for cell in cells]


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
            ("measured", f"{report.run_context.started}, edgepack {report.run_context.edgepack}"),
        ]
    )  # fmt: skip


def _bundle(manifest: Manifest, reports: Sequence[Report]) -> Markup:
    digests = {report.bundle.digest for report in reports if report.bundle.name == manifest.name}
    provenance = manifest.provenance
    data = [
        ("calibration", provenance.calibration, provenance.calibration_samples),
        ("evaluation", provenance.evaluation, provenance.evaluation_samples),
        ("training", provenance.training, None),
    ]
    locks = "; ".join(f"{lock.runtime} for Python {lock.python} on {lock.machine}" for lock in manifest.locks)
    tensors = "; ".join(map(str, (*manifest.signature.inputs, *manifest.signature.outputs)))
    frameworks = ", ".join(f"{name} {version}" for name, version in manifest.source.frameworks)
    rows: list[tuple[str, Content]] = [
        ("bundle", element("code", *digests) if len(digests) == 1 else ""),
        ("created", manifest.created),
        ("source", f"{manifest.source.format}, {manifest.source.digest}"),
        ("read with", frameworks),
        ("built with", ", ".join(f"{name} {version}" for name, version in provenance.tools)),
        ("inputs, outputs", tensors),
        ("labels", ", ".join(manifest.labels[:20]) + (" …" if len(manifest.labels) > 20 else "")),
        ("runtimes", ", ".join(f"{name} {wanted.version}" for name, wanted in manifest.runtimes.items())),
        ("runtime locks", locks),
        ("profile", f"{manifest.profile.name}, {manifest.profile.digest}"),
        ("plan", provenance.plan),
        *((f"{name} data", _given(content, count)) for name, content, count in data),
    ]
    return html.join([element("h2", "The bundle"), html.facts(rows), *_limits(manifest)])


def _given(content: str | None, count: int | None) -> str:
    return f"{f'{count} samples, ' if count is not None else ''}{content}" if content else "none was given"


def _limits(manifest: Manifest) -> list[Markup]:
    """Where the numbers above end, as the model card in the bundle says it."""
    given = manifest.provenance
    lines = [
        "Scores hold for data like the evaluation set; nothing was tested beside it, nor for groups within it."
        if given.evaluation
        else "No evaluation data was given: nobody knows how accurate these variants are.",
        "" if given.calibration or given.evaluation else "Parity was measured on seeded noise, not on real samples.",
        f"Made for devices of the profile {manifest.profile.name}; on others neither answers nor latencies were looked at.",
    ]
    return [element("h3", "Limits"), element("ul", *(element("li", line) for line in lines if line))]
