"""The verbs beside `bench`: a load as LoadGen makes it, and known samples, on boards that have the release."""

from __future__ import annotations

import base64
import io
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from edgepack import digest, estimate, evaluate, measure, runtimes, scenarios, sources
from edgepack.bundle import Bundle
from edgepack.errors import InputError, UsageError
from edgepack.manifest import VariantRecord
from edgepack.ports import Progress
from edgepack.protocol import AccuracyReply, AccuracyRequest, BlobPart, ScenarioReply, ScenarioRequest
from edgepack.remote import Bastions, Outgoing, Session
from edgepack.report import Report
from edgepack.samples import Array, Arrays, Samples, over
from edgepack.target import Target
from edgepack.trials import Accuracy, Difference, Load, Scenario
from edgepack.work import Work

_SPARE_SECONDS = 240.0
_SECONDS = 900.0
SHOWN = 20
"""Samples that are listed one by one where board and host disagree; all of them are counted."""


def under_load(
    targets: Sequence[Target],
    reports: Sequence[Report],
    load: Load,
    target_latency_ms: float,
    progress: Progress,
) -> tuple[Report, ...]:
    """The reports (one a target) with the result of a scenario on each board. Raises UsageError, BoardError."""
    check(load, target_latency_ms)
    load = structs.replace(load, least_queries=max(load.least_queries, scenarios.least_of(load.kind)))

    def one(session: Session, report: Report) -> Report:
        with progress.step(f"{load.kind} on {report.run_context.target}, at least {load.seconds:g} s"):
            return structs.replace(report, scenario=_scenario(session, report, load, round(target_latency_ms * 1e6)))

    return tuple(_each(targets, reports, one))


def check(load: Load, target_latency_ms: float) -> None:
    """Raises UsageError for a scenario that lacks what defines it, or has what only another one takes."""
    if load.kind == "Server" and not (load.target_qps > 0 and target_latency_ms > 0):
        raise UsageError(
            "the scenario server needs arrivals and a latency to keep",
            expected="--target-qps and --target-latency-ms, both above 0",
        )
    if load.kind != "Server" and (load.target_qps or target_latency_ms):
        raise UsageError(f"{load.kind} takes no --target-qps and no --target-latency-ms: only the scenario server does")
    if load.seconds <= 0:
        raise UsageError(f"a scenario cannot take {load.seconds:g} s", expected="--duration above 0")


def _scenario(session: Session, report: Report, load: Load, target_ns: int) -> Scenario:
    request = ScenarioRequest(name=report.bundle.name, release=report.bundle.digest, variant=report.variant, load=load)
    deadline = _SPARE_SECONDS + load.seconds + load.most_seconds
    reply = session.call("scenario", request, ScenarioReply, deadline)
    return scenarios.conclude(load, reply.latencies_ns, reply.taken_ns, reply.runtime_version, target_ns)


def counted(bundle: Bundle, reports: Sequence[Report], progress: Progress) -> tuple[Report, ...]:
    """The reports with what their variants compute, so that later builds are estimated from them.

    A host without the framework that reads such a file leaves it out and says so.
    """
    known: dict[str, Work | None] = {}
    for report in reports:
        if report.variant not in known:
            known[report.variant] = _count(bundle, bundle.manifest.variant(report.variant), progress)
    return tuple(structs.replace(report, work=known[report.variant]) for report in reports)


def _count(bundle: Bundle, record: VariantRecord, progress: Progress) -> Work | None:
    try:
        with _unpacked(bundle, record) as file:
            return estimate.count(file, record.format)
    except (UsageError, InputError) as error:
        progress.note(f"{record.id}: not counted, so that no estimate rests on this run: {error.what}")
        return None


@contextmanager
def _unpacked(bundle: Bundle, record: VariantRecord) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
        file = Path(folder) / record.id
        file.write_bytes(bundle.read_blob(record.digest, record.size))
        yield file


def accuracy(
    bundle: Bundle,
    targets: Sequence[Target],
    reports: Sequence[Report],
    data: str,
    part: float,
    metric: str,
    progress: Progress,
) -> tuple[Report, ...]:
    """The reports (one a target) with how each board answers known samples, next to how this machine does.

    data: an `.npz` of x and y, or `file.py:callable`; part: of its samples, 0 to 1; metric: empty for the bundle's
    Raises InputError for data that does not fit, UsageError where the host lacks the variant's runtime, BoardError.
    """
    if not 0 < part <= 1:
        raise UsageError(f"--part {part:g} is no share of the samples", expected="above 0, at most 1")
    manifest = bundle.manifest
    named = metric or manifest.metric
    if not named or " " in named:
        raise InputError(
            f"the bundle's metric is {named or 'not set'}: nothing here can compute it",
            expected=f"one of {', '.join(evaluate.NAMES)}, or file.py:callable",
            advice="name it with --metric",
        )
    folder = Path()
    every = sources.load_samples(data, folder, manifest.signature, manifest.preprocessing, True, progress.note)
    chosen = every.take(math.ceil(part * len(every)))
    measured = evaluate.metric(named, folder)
    labels = _labels(chosen)
    answers: dict[str, tuple[Arrays, str, float]] = {}

    def one(session: Session, report: Report) -> Report:
        record = manifest.variant(report.variant)
        if record.id not in answers:
            with progress.step(f"{len(chosen)} samples through {record.id} here"):
                outputs, runtime = _here(bundle, record, chosen)
                answers[record.id] = outputs, runtime, evaluate.score(outputs, labels, measured)
        with progress.step(f"{len(chosen)} samples through {record.id} on {report.run_context.target}"):
            board, version = _there(session, report, chosen, progress)
        host, runtime, score = answers[record.id]
        found = evaluate.agreement(host, board, labels, record.tolerance)
        return structs.replace(
            report,
            accuracy=Accuracy(
                samples=len(chosen),
                available=len(every),
                data=data,
                metric=measured.name,
                host=score,
                board=evaluate.score(board, labels, measured),
                agreement=found.share,
                differing=found.differing,
                differences=_first(found, every, len(chosen)),
                max_abs=found.max_abs,
                within=found.within,
                host_runtime=runtime,
                board_runtime=f"{report.runtime.name} {version}",
            ),
        )

    return tuple(_each(targets, reports, one))


def _here(bundle: Bundle, record: VariantRecord, samples: Samples) -> tuple[Arrays, str]:
    with _unpacked(bundle, record) as file:
        opened = runtimes.open_session(file, record.format)
        return over(opened.run, samples), opened.runtime


def _there(session: Session, report: Report, samples: Samples, progress: Progress) -> tuple[Arrays, str]:
    packed = io.BytesIO()
    inputs: dict[str, Any] = {f"input_{index}": array for index, array in enumerate(samples.inputs)}
    np.savez(packed, **inputs)
    data = packed.getvalue()
    blob = digest.of_bytes(data)
    session.send_blobs([Outgoing(BlobPart(blob, len(data)), lambda: io.BytesIO(data))], progress)
    request = AccuracyRequest(
        name=report.bundle.name,
        release=report.bundle.digest,
        variant=report.variant,
        blob=blob,
        threads=report.runtime.threads,
        seconds=_SECONDS,
    )
    reply = session.call("accuracy", request, AccuracyReply, _SECONDS + _SPARE_SECONDS)
    with np.load(io.BytesIO(base64.b64decode(reply.outputs)), allow_pickle=False) as arrays:
        outputs = tuple(arrays[f"output_{index}"] for index in range(len(arrays.files)))
    return tuple(_rows(output) for output in outputs), reply.runtime_version


def _rows(output: Array) -> Array:
    """One row a sample: each answer came with the batch axis that the model gives it, or without one."""
    return output[:, 0] if output.ndim > 1 and output.shape[1] == 1 else output


def _labels(samples: Samples) -> Array:
    assert samples.labels is not None, "loaded with labels"
    return samples.labels


def _first(found: evaluate.Agreement, every: Samples, taken: int) -> tuple[Difference, ...]:
    """The first differing samples, by their place in the whole evaluation set (`Samples.take` spreads a part evenly)."""
    places = np.linspace(0, len(every) - 1, taken).round().astype(int) if taken < len(every) else np.arange(taken)
    return tuple(structs.replace(one, index=int(places[one.index])) for one in found.differences[:SHOWN])


def _each(
    targets: Sequence[Target], reports: Sequence[Report], one: Callable[[Session, Report], Report]
) -> Iterator[Report]:
    """One board after the other: boards that share a link or this machine must not disturb each other."""
    with Bastions() as bastions:
        for target, report in zip(targets, reports, strict=True):
            with measure.visit(target, bastions) as (session, _):
                yield one(session, report)
