"""What a build gave: every variant's score against its size and its latency, what was rejected and why, where it comes from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from edgepack.manifest import Manifest
from edgepack.names import VariantId
from edgepack.report import Report
from edgepack.reports import expected, html
from edgepack.reports.drawing import Picture, byte_size, figures, metric_name
from edgepack.reports.expected import Estimated
from edgepack.reports.fronts import Point, Scale, front_picture, share_interval
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.reports.layers import chapter as layers_chapter
from edgepack.reports.measured import device
from edgepack.reports.timing import doubt_of
from edgepack.variant import Built, Failed, Judged, LayerReport, Parity

_VERDICTS = ("valid", "suspect", "invalid")
_SHARES = ("top1", "top5")
"""Metrics that are shares of samples, so that their interval follows from how many there were."""


@dataclass(frozen=True)
class Build:
    """baseline: the source's score, None where it was not scored; source_bytes: None where nobody knows it any more

    layers: what static quantization did; estimates: where the latency of what was not measured may lie; by the variant's name
    """

    manifest: Manifest
    judged: tuple[Judged, ...]
    baseline: float | None
    source_bytes: int | None = None
    layers: Mapping[VariantId, Sequence[LayerReport]] = field(default_factory=dict)
    estimates: Mapping[VariantId, Estimated] = field(default_factory=dict)


def packed(manifest: Manifest, layers: Mapping[VariantId, Sequence[LayerReport]] | None = None) -> Build:
    """What a bundle itself still knows of its build: the variants in it, not those that were rejected."""
    variants = [
        Built(
            id=VariantId(record.id),
            runtime=record.runtime,
            format=record.format,
            precision=record.precision,
            sparsity=record.sparsity,
            recipe=record.recipe,
            digest=record.digest,
            size_bytes=record.size,
            parity=record.parity,
            score=record.score,
            drop=record.drop,
        )
        for record in manifest.variants
    ]
    judged = tuple(Judged(each, "selected" if each.id == manifest.default else "kept", "") for each in variants)
    return Build(manifest, judged, manifest.baseline, layers=layers or {})


def short_name(variant: Built | Failed) -> str:
    """`w8a8-s50 tflite`: what tells a bundle's variants apart."""
    pruned = f"-s{round(variant.sparsity * 100)}" if variant.sparsity else ""
    trained = "-qat" if "-qat." in variant.id else ""
    return f"{variant.precision}{pruned}{trained} {variant.format}"


def lead(build: Build) -> Markup:
    judged = build.judged
    default = _default(build)
    packed_ones = sum(one.status != "rejected" for one in judged)
    rejected = len(judged) - packed_ones
    tried = f"{len(judged)} variants were tried: " if rejected else ""
    in_all = "" if rejected else " variants" if packed_ones != 1 else " variant"
    dropped = f", {rejected} were rejected. " if rejected else ". "
    return element(
        "p",
        f"{tried}{packed_ones}{in_all} {'are' if packed_ones != 1 else 'is'} in the bundle{dropped}",
        *((element("code", default.id), " is the default.") if default else ("None met the budget.",)),
        kind="lead",
    )


def cards(build: Build) -> list[Markup]:
    default, baseline = _default(build), build.baseline
    if default is None:
        return []
    against = ""
    if build.source_bytes:
        ratio = build.source_bytes / default.size_bytes
        times = f"{ratio:.1f} × smaller" if ratio >= 1 else f"{1 / ratio:.1f} × larger"
        against = f", {times} than the source, {byte_size(build.source_bytes)}"
    tiles = [html.card(byte_size(default.size_bytes), f"the default variant{against}")]
    if default.score is not None and baseline is not None:
        tiles.append(
            html.card(f"{default.score:.4g}", f"{metric_name(build.manifest.metric)}; the source has {baseline:.4g}")
        )
    return tiles


def _default(build: Build) -> Built | None:
    return next((j.built for j in build.judged if isinstance(j.built, Built) and j.status == "selected"), None)


def size_picture(build: Build) -> Picture:
    """Every variant's size against its score (against its SQNR where nothing was scored), the source, and the budget."""
    points = [
        replace(point, x=float(built.size_bytes)) for built, point in _points(build) if math.isfinite(point.y)
    ]  # fmt: skip
    limit = build.manifest.gates.max_size_mb
    x = Scale("size of the model file", "bytes", "lower", None if limit is None else limit * 1e6)
    source = None
    if _scored(build) and build.baseline is not None and build.source_bytes:
        source = Point("source", build.source_bytes, build.baseline)
    return front_picture("Accuracy against size of every variant", points, x, _score_scale(build), source)


def timed(build: Build, reports: Sequence[Report]) -> dict[str, Report]:
    """The run that speaks for each variant: on the board that ran most of them, of the best verdict, the latest of those."""
    mine = [report for report in reports if report.bundle.name == build.manifest.name]
    boards = Counter(target for target, _ in {(report.run_context.target, report.variant) for report in mine})
    found: dict[str, Report] = {}
    for report in mine:
        known = found.get(report.variant)
        if report.run_context.target != max(boards, key=lambda board: (boards[board], board)):
            continue
        if known is None or _VERDICTS.index(report.validity.verdict) <= _VERDICTS.index(known.validity.verdict):
            found[report.variant] = report
    return found


def latency_front_picture(build: Build, known: Mapping[str, Report]) -> Picture | None:
    """Variants' scores against their measured latencies, with the intervals of both; None where fewer than two were measured.

    A latency is that of the variant's report in `known`, else what the build measured on its target.
    """
    points = []
    for built, point in _points(build):
        report = known.get(built.id)
        if report is not None:
            low, high = report.summary.p50_interval_ns
            points.append(replace(point, x=report.summary.p50_ns / 1e6, x_interval=(low / 1e6, high / 1e6)))
        elif built.latency_ms is not None and not known:
            points.append(replace(point, x=built.latency_ms))
    if len(points) < 2:
        return None
    doubts = {doubt_of(report) for report in known.values()} - {""}
    x = Scale("median latency", "ms")
    return front_picture(
        "Accuracy against latency of the variants", points, x, _score_scale(build), doubt=max(doubts, default="")
    )


def _scored(build: Build) -> bool:
    scored = any(isinstance(j.built, Built) and j.built.score is not None for j in build.judged)
    return build.baseline is not None and scored


def _points(build: Build) -> Iterator[tuple[Built, Point]]:
    """Points that know no x yet."""
    count = build.manifest.provenance.evaluation_samples
    for one in build.judged:
        built = one.built
        if not isinstance(built, Built):
            continue
        y = built.score if _scored(build) else built.parity.sqnr_db
        if y is None:
            continue
        share = _scored(build) and build.manifest.metric in _SHARES and count
        ends = share_interval(y, count) if share and count and 0 <= y <= 1 else None
        yield built, Point(short_name(built), 0.0, y, one.status, y_interval=ends)


def _score_scale(build: Build) -> Scale:
    """Whether a higher score is better shows in how scores and drops are related."""
    metric, budget, baseline = build.manifest.metric, build.manifest.gates.max_drop, build.baseline
    if not _scored(build) or baseline is None:
        return Scale("SQNR against the source, dB", better="higher")
    pairs = [(j.built.score, j.built.drop) for j in build.judged if isinstance(j.built, Built)]
    signs = [(baseline - score) * drop for score, drop in pairs if score is not None and drop is not None]
    lower = sum(sign < 0 for sign in signs) > sum(sign > 0 for sign in signs)
    limit = None if budget is None else baseline + budget if lower else baseline - budget
    name = "" if budget is None else f"budget: at most {budget:g} worse"
    return Scale(f"{metric_name(metric)}, evaluation data", "plain", "lower" if lower else "higher", limit, name)


def variants(build: Build, reports: Sequence[Report]) -> Markup:
    """The chapter: pictures and the table of all variants."""
    known = timed(build, reports)
    measured_here = any(isinstance(j.built, Built) and j.built.latency_ms is not None for j in build.judged)
    columns = _columns(build, measured_here)
    rows = [_variant_row(one, measured_here) for one in sorted(build.judged, key=_place)]
    against = latency_front_picture(build, known)
    latency = []
    if against is not None:
        board = next((device(report) for report in known.values()), "the build’s target")
        caption = f"Bars: 95 % intervals, of a score where it is a share of samples. Measured on {board}."
        latency = [element("h2", "Accuracy against latency"), html.figure(against, caption)]
    return html.join(
        [
            *latency,
            element("h2", "Accuracy against size"),
            html.figure(size_picture(build), _caption(build)),
            html.table("Variants", columns, rows, heads=0),
            *expected.measured([one.built for one in build.judged if isinstance(one.built, Built)]),
            *expected.estimated(build.estimates),
            *(part for name, layers in build.layers.items() for part in layers_chapter(name, layers)),
        ]
    )


def _columns(build: Build, timed: bool) -> list[Column]:
    measures = ("size", metric_name(build.manifest.metric), "drop", "SQNR, dB", "max. error")
    numbers = (*measures, *(["median, ms"] if timed else []))
    return [Column("variant", "name"), Column("verdict"), *(Column(title, "number") for title in numbers)]


def _caption(build: Build) -> Markup:
    budget = build.manifest.gates
    limits = [
        f"at most {budget.max_drop:g} worse than the source" if budget.max_drop is not None else "",
        f"at most {byte_size(budget.max_size_mb * 1e6)}" if budget.max_size_mb is not None else "",
        f"p90 at most {budget.max_p90_ms:g} ms where measured" if budget.max_p90_ms is not None else "",
        f"memory at most {budget.max_memory_mb:g} MB where measured" if budget.max_memory_mb is not None else "",
    ]
    marks = [element("span", status, kind=f"mark {status}") for status in ("selected", "kept", "rejected")]
    spaced = [part for mark in marks for part in (mark, Markup(", "))]
    budgets = "; ".join(limit for limit in limits if limit) or "none"
    source = "◇ the source. " if build.source_bytes else ""
    count = build.manifest.provenance.evaluation_samples
    bars = f"Bars: 95 % interval of a share of {count} samples. " if count and build.manifest.metric in _SHARES else ""
    return element("span", *spaced[:-1], f"{'. ' if not source else ', '}{source}{bars}Budget: {budgets}.")


def _place(one: Judged) -> tuple[int, float]:
    order = ("selected", "kept", "rejected").index(one.status)
    return order, one.built.size_bytes if isinstance(one.built, Built) else float("inf")


def _variant_row(one: Judged, timed: bool) -> list[Content]:
    built, verdict = one.built, element("span", one.status, kind=f"mark {one.status}")
    if not isinstance(built, Built):
        return [short_name(built), verdict, "–", "–", "–", *_parity_cells(built.parity), *(["–"] if timed else [])]
    latency = "–" if built.latency_ms is None else figures(built.latency_ms)
    return [
        short_name(built),
        verdict,
        byte_size(built.size_bytes),
        "–" if built.score is None else f"{built.score:.4f}",
        "–" if built.drop is None else f"{built.drop:+.4f}".replace("-", "−"),
        *_parity_cells(built.parity),
        *([latency] if timed else []),
    ]


def _parity_cells(parity: Parity | None) -> list[Content]:
    return ["–", "–"] if parity is None else [f"{parity.sqnr_db:.1f}", f"{parity.max_abs:.2g}"]


def rejected(build: Build) -> Markup:
    """What was rejected, and why; nothing where the page was made from a bundle alone, which does not know it."""
    found = [one for one in build.judged if one.status == "rejected"]
    if not found:
        return html.NOTHING
    rows: list[list[Content]] = [[short_name(one.built), one.reason] for one in found]
    columns = [Column("variant", "name"), Column("reason", "reason")]
    return html.join(
        [element("h2", "What was rejected, and why"), html.table("Rejected variants", columns, rows, heads=0)]
    )


def bundle(build: Build, reports: Sequence[Report]) -> Markup:
    manifest = build.manifest
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
    return html.join([element("h2", "The bundle"), html.facts(rows), *_bounds(manifest)])


def _given(content: str | None, count: int | None) -> str:
    return f"{f'{count} samples, ' if count is not None else ''}{content}" if content else "none was given"


def _bounds(manifest: Manifest) -> list[Markup]:
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
