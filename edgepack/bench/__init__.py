"""One benchmark through a board's agent: ask, summarize, judge. The timing itself happens in `edgepack.device.bench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any, get_args

import msgspec

from edgepack import stats, verdict
from edgepack.digest import Digest
from edgepack.errors import BoardError
from edgepack.ports import Agent, Heard
from edgepack.protocol import Beat, BenchReply, BenchRequest, Candidate, Facts, PairReply, PairRequest, SweepRun
from edgepack.report import (
    BenchProtocol,
    BundleRef,
    ProcessRun,
    Report,
    RunContext,
    RuntimeRef,
    Summary,
    SweepPoint,
)
from edgepack.target import BoardKind, Target

Listener = Callable[[Beat], None]
"""Told how far a benchmark is, a few times a second, on the thread that speaks with that board."""
START_SECONDS = 180.0
"""What one process may take before its capped part begins; the agent gives up on it at the same time."""
SWEEP_PROCESSES = 2
"""Of each number of threads, as `edgepack.device.bench` has it."""
_SPARE_SECONDS = 60.0
_PASSING = {
    "releases",
    "highest",
    "runtimes",
    "system_runtimes",
    "blobs",
    "conditions",
    "root",
    "protocol",
    "disk_free",
}


def bench(
    agent: Agent,
    facts: Facts,
    target: Target,
    ref: BundleRef,
    variant: str,
    protocol: BenchProtocol,
    started: str,
    listener: Listener | None = None,
) -> Report:
    """Measure a release that is installed on the board, in fresh processes there.

    variant: one of the release's, or empty for the one that applications on the board get; started: RFC 3339
    listener: told how far it is, while it runs
    Raises BoardError where the release is not installed, or a process on the board crashed or hung.
    """
    _require_installed(facts, target, ref)
    request = BenchRequest(name=ref.name, release=ref.digest, variant=variant, protocol=protocol)
    reply = agent.call("bench", request, BenchReply, _deadline(protocol, facts), _heard(listener, target))
    return _report(_Run(facts, target, protocol, started), ref, reply)


@dataclass(frozen=True)
class Side:
    """One of two that are compared on a board. variant: as for `bench`"""

    ref: BundleRef
    variant: str = ""


def bench_pair(
    agent: Agent,
    facts: Facts,
    target: Target,
    sides: tuple[Side, Side],
    protocol: BenchProtocol,
    started: str,
    listener: Listener | None = None,
) -> tuple[Report, Report]:
    """Measure two installed releases, or variants of one, in turns: A B B A, each process fresh. Raises as `bench`."""
    for side in sides:
        _require_installed(facts, target, side.ref)
    first, second = (Candidate(name=one.ref.name, release=one.ref.digest, variant=one.variant) for one in sides)
    request = PairRequest(first=first, second=second, protocol=protocol)
    reply = agent.call("bench-pair", request, PairReply, 2 * _deadline(protocol, facts), _heard(listener, target))
    run = _Run(facts, target, protocol, started)
    return _report(run, sides[0].ref, reply.first), _report(run, sides[1].ref, reply.second)


def _deadline(protocol: BenchProtocol, facts: Facts) -> float:
    """What the agent allows all its processes, and some more: it is to give up first, since it can say why."""
    each = START_SECONDS + 2 * (protocol.seconds + protocol.sustained_seconds)
    passes = sum((protocol.cold, protocol.ops, protocol.energy, protocol.sustained_seconds > 0))
    sweep = SWEEP_PROCESSES * facts.cores if protocol.sweep_threads else 0
    return (protocol.processes + passes + sweep) * each + protocol.cool_seconds + _SPARE_SECONDS


@dataclass(frozen=True)
class _Run:
    facts: Facts
    target: Target
    protocol: BenchProtocol
    started: str


def _report(run: _Run, ref: BundleRef, reply: BenchReply) -> Report:
    summary = stats.summarize(reply.processes)
    return Report(
        bundle=ref,
        variant=reply.variant,
        runtime=RuntimeRef(
            reply.runtime,
            reply.runtime_version,
            run.protocol.threads,
            Digest(reply.lock) if reply.lock else None,
            reply.build,
            reply.delegates,
        ),
        device=describe(run.facts),
        run_context=RunContext(
            target=run.target.name,
            started=run.started,
            edgepack=metadata.version("edgepack"),
            before=reply.before,
            after=reply.after,
            between=reply.between,
            preflight=reply.preflight,
        ),
        protocol=run.protocol,
        processes=reply.processes,
        summary=summary,
        harness_overhead_ns=reply.harness_overhead_ns,
        validity=verdict.judge(_evidence(run, reply, reply.processes, summary)),
        notes=(*early_ends(reply, run.protocol), *reply.notes),
        sweep=tuple(_point(run, reply, one) for one in reply.sweep),
        sustained=reply.sustained,
        cold=reply.cold,
        ops=reply.ops,
        energy=reply.energy,
    )


def _evidence(run: _Run, reply: BenchReply, processes: tuple[ProcessRun, ...], summary: Summary) -> verdict.Evidence:
    return verdict.Evidence(
        processes=processes,
        summary=summary,
        overhead_ns=reply.harness_overhead_ns,
        before=reply.before,
        after=reply.after,
        board=stand_in(run.facts, run.target),
        cores=run.facts.cores,
        between=reply.between,
        preflight=reply.preflight,
    )


def _point(run: _Run, reply: BenchReply, swept: SweepRun) -> SweepPoint:
    """Its verdict does not hold its few processes against it: a sweep is for the shape of the curve."""
    summary = stats.summarize(swept.processes)
    judged = verdict.judge(_evidence(run, reply, swept.processes, summary), least_processes=len(swept.processes))
    return SweepPoint(
        threads=swept.threads,
        p50_ns=summary.p50_ns,
        p90_ns=summary.p90_ns,
        interval_ns=summary.p50_interval_ns,
        throughput_per_s=1e9 * run.protocol.batch / summary.p50_ns,
        verdict=judged.verdict,
    )


def _heard(listener: Listener | None, target: Target) -> Heard | None:
    if listener is None:
        return None

    def heard(line: bytes) -> None:
        listener(msgspec.structs.replace(msgspec.json.decode(line, type=_Line).beat, target=target.name))

    return heard


class _Line(msgspec.Struct):
    beat: Beat


def stand_in(facts: Facts, target: Target) -> BoardKind | None:
    """Whether edgepack itself stands in for the device, as the board or the inventory says. Either is enough."""
    kinds = {facts.board, target.board}
    return next((kind for kind in get_args(BoardKind)[::-1] if kind in kinds), None)


def describe(facts: Facts) -> dict[str, Any]:
    """The facts of a board that last: what it is, not what is on it now."""
    plain = msgspec.json.decode(msgspec.json.encode(facts))
    return {key: value for key, value in plain.items() if key not in _PASSING}


def early_ends(reply: BenchReply, protocol: BenchProtocol) -> tuple[str, ...]:
    """What the cap of seconds cut short."""
    notes = []
    for number, process in enumerate(reply.processes, 1):
        taken, warm = len(process.samples_ns), process.warm_count or len(process.warm_ns)
        if taken < protocol.samples or warm < protocol.warmup:
            notes.append(
                f"process {number} ended at its cap of {protocol.seconds:g} s: {taken} of {protocol.samples} samples, "
                f"{warm} of {protocol.warmup} warm-up runs"
            )
    return tuple(notes)


def _require_installed(facts: Facts, target: Target, ref: BundleRef) -> None:
    mine = [release for release in facts.releases if release.name == ref.name]
    if any(release.digest == ref.digest for release in mine):
        return
    held = ", ".join(f"{release.version} ({release.digest[:19]})" for release in mine)
    raise BoardError(
        f"target {target.name!r}: {ref.name} {ref.version} ({ref.digest[:19]}) is not installed there",
        expected=f"that release; the board has {held}" if held else f"a release of {ref.name}; the board has none",
        advice=f"edgepack push BUNDLE {target.name} first",
    )
