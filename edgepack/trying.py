"""The verbs beside `bench`: a load as LoadGen makes it, and known samples, on boards that have the release."""

from __future__ import annotations

import base64
import io
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs

from edgepack import digest, estimate, evaluate, measure, runtimes, scenarios, sources
from edgepack.bundle import Bundle
from edgepack.errors import BoardError, InputError, UsageError
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

    A host without the framework that reads such a file leaves it out and says so. Reports of another bundle stay as they are.
    """
    found = []
    known: dict[str, Work | None] = {}
    for report in reports:
        if report.bundle.digest == bundle.digest:
            if report.variant not in known:
                known[report.variant] = _count(bundle, bundle.manifest.variant(report.variant), progress)
            report = structs.replace(report, work=known[report.variant])
        found.append(report)
    return tuple(found)


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


@dataclass(frozen=True)
class Questions:
    """Samples whose answers are known. data: as they were named; available: how many there are; chosen: those that are asked"""

    data: str
    available: int
    chosen: Samples
    labels: Array
    metric: evaluate.Metric


def questions(bundle: Bundle, data: str, part: float, metric: str, progress: Progress) -> Questions:
    """What a board is to be asked, read and checked before anything is measured.

    data: an `.npz` of x and y, or `file.py:callable`; part: of its samples, 0 to 1; metric: empty for the bundle's
    Raises UsageError for a wrong share, InputError for data that does not fit the bundle or a metric that nobody knows.
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
    measured = evaluate.metric(named, folder)
    every = sources.load_samples(data, folder, manifest.signature, manifest.preprocessing, True, progress.note)
    chosen = every.take(math.ceil(part * len(every)))
    assert chosen.labels is not None, "loaded with labels"
    return Questions(data, len(every), chosen, chosen.labels, measured)


def accuracy(
    bundle: Bundle, targets: Sequence[Target], reports: Sequence[Report], asked: Questions, progress: Progress
) -> tuple[Report, ...]:
    """The reports (one a target) with how each board answers known samples, next to how this machine does.

    Raises UsageError where the host lacks the variant's runtime, InputError where its answers do not fit the metric, BoardError
    where a board did not answer, or not with numbers.
    """
    manifest, chosen, measured = bundle.manifest, asked.chosen, asked.metric
    answers: dict[str, tuple[Arrays, str, float]] = {}

    def one(session: Session, report: Report) -> Report:
        record = manifest.variant(report.variant)
        if record.id not in answers:
            with progress.step(f"{len(chosen)} samples through {record.id} here"):
                outputs, runtime = _here(bundle, record, chosen)
                if said := _no_numbers(outputs):
                    raise InputError(
                        f"{asked.data}: {record.id} answers {said} here, in {runtime}",
                        expected="samples to which the model answers with numbers",
                    )
                answers[record.id] = outputs, runtime, evaluate.score(outputs, asked.labels, measured)
        with progress.step(f"{len(chosen)} samples through {record.id} on {report.run_context.target}"):
            board, version = _there(session, report, chosen, progress)
        if said := _no_numbers(board):
            raise BoardError(
                f"target {report.run_context.target!r}: {record.id} answered {said}",
                expected="numbers, as this machine answers",
                advice=f"edgepack push BUNDLE {report.run_context.target} runs the self-test there; then another variant",
            )
        host, runtime, score = answers[record.id]
        found = evaluate.agreement(host, board, asked.labels, record.tolerance)
        return structs.replace(
            report,
            accuracy=Accuracy(
                samples=len(chosen),
                available=asked.available,
                data=asked.data,
                metric=measured.name,
                host=score,
                board=evaluate.score(board, asked.labels, measured),
                agreement=found.share,
                differing=found.differing,
                differences=_first(found, asked),
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


def _no_numbers(outputs: Arrays) -> str:
    """Where answers hold what is no number, empty where none does: whoever gives such is broken, however fast it was."""
    for index, output in enumerate(outputs):
        wrong = np.flatnonzero(~np.isfinite(output.reshape(len(output), -1)).all(axis=1))
        if len(wrong):
            of = f"{len(wrong)} of {len(output)} samples"
            return f"NaN or infinity in output {index} to {of}, the first of them number {wrong[0]}"
    return ""


def _first(found: evaluate.Agreement, asked: Questions) -> tuple[Difference, ...]:
    """The first differing samples, by their place in the whole evaluation set (`Samples.take` spreads a part evenly)."""
    taken, of = len(asked.chosen), asked.available
    places = np.linspace(0, of - 1, taken).round().astype(int) if taken < of else np.arange(taken)
    return tuple(structs.replace(one, index=int(places[one.index])) for one in found.differences[:SHOWN])


def _each(
    targets: Sequence[Target], reports: Sequence[Report], one: Callable[[Session, Report], Report]
) -> Iterator[Report]:
    """One board after the other: boards that share a link or this machine must not disturb each other."""
    with Bastions() as bastions:
        for target, report in zip(targets, reports, strict=True):
            with measure.visit(target, bastions) as (session, _):
                yield one(session, report)
