"""One benchmark through a board's agent: ask, summarize, judge. The timing itself happens in `edgepack.device.bench`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Any, get_args

import msgspec

from edgepack import stats
from edgepack.digest import Digest
from edgepack.errors import BoardError
from edgepack.ports import Agent, Heard
from edgepack.protocol import Beat, BenchReply, BenchRequest, Facts
from edgepack.report import BenchProtocol, BundleRef, Report, RunContext, RuntimeRef
from edgepack.target import BoardKind, Target

Listener = Callable[[Beat], None]
"""Told how far a benchmark is, a few times a second, on the thread that speaks with that board."""
START_SECONDS = 180.0
"""What one process may take before its capped part begins; the agent gives up on it at the same time."""
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
    deadline = protocol.processes * (START_SECONDS + 2 * protocol.seconds) + _SPARE_SECONDS
    reply = agent.call("bench", request, BenchReply, deadline, _heard(listener, target))
    summary = stats.summarize(reply.processes)
    evidence = stats.Evidence(
        processes=reply.processes,
        summary=summary,
        overhead_ns=reply.harness_overhead_ns,
        before=reply.before,
        after=reply.after,
        board=stand_in(facts, target),
        cores=facts.cores,
    )
    return Report(
        bundle=ref,
        variant=reply.variant,
        runtime=RuntimeRef(
            reply.runtime, reply.runtime_version, protocol.threads, Digest(reply.lock) if reply.lock else None
        ),
        device=describe(facts),
        run_context=RunContext(
            target=target.name,
            started=started,
            edgepack=metadata.version("edgepack"),
            before=reply.before,
            after=reply.after,
        ),
        protocol=protocol,
        processes=reply.processes,
        summary=summary,
        harness_overhead_ns=reply.harness_overhead_ns,
        validity=stats.judge(evidence),
        notes=early_ends(reply, protocol),
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
        taken, warm = len(process.samples_ns), len(process.warm_ns)
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
