"""The kept variants, their golden samples and their runtime locks to one manifest and one bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from msgspec import structs

from edgepack import bundle, digest, wheels
from edgepack.bundle import Bundle
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.lock import Platform, RuntimeLock
from edgepack.manifest import SCHEMA, LockRecord, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord
from edgepack.papers import write as papers_of
from edgepack.pipeline.make import Made
from edgepack.pipeline.prepare import Inputs
from edgepack.pipeline.tools import tools
from edgepack.plan import Plan
from edgepack.ports import Progress
from edgepack.project import Project
from edgepack.variant import Quantizing


def pack(
    plan: Plan, inputs: Inputs, project: Project, kept: Sequence[Made], default: str, out: Path, progress: Progress
) -> Bundle:
    """Write the bundle of one profile into `out`. The same inputs give the same bytes."""
    locks = _locks(plan, kept, progress)
    manifest = _manifest(plan, inputs, project, kept, default, locks)
    papers = papers_of(manifest, locks, plan.profile.profile, _quantized(kept))
    manifest = structs.replace(manifest, documents=tuple(paper.record for paper in papers))
    blobs: dict[Digest, Path | bytes] = {made.variant.digest: made.model for made in kept}
    blobs |= {digest.of_file(made.golden): made.golden for made in kept}
    blobs |= {lock.digest(): digest.canonical_json(lock) for lock in locks}
    blobs |= {paper.record.digest: paper.data for paper in papers}
    return bundle.pack(manifest, blobs, out)


def _manifest(
    plan: Plan, inputs: Inputs, project: Project, kept: Sequence[Made], default: str, locks: Sequence[RuntimeLock]
) -> Manifest:
    model, scored = inputs.loaded.model, inputs.scored
    return Manifest(
        schema=SCHEMA,
        name=plan.name,
        version=plan.version,
        created=created(),
        profile=ProfileRecord(plan.profile.name, plan.profile.profile.digest()),
        source=SourceRecord(model.format, model.digest, model.frameworks),
        signature=model.signature,
        preprocessing=project.data.preprocessing,
        labels=project.data.labels,
        metric=scored.metric.name if scored else "",
        baseline=scored.baseline if scored else None,
        variants=tuple(_record(made) for made in kept),
        default=default,
        runtimes=plan.profile.profile.runtimes,
        locks=tuple(_lock_record(lock) for lock in locks),
        gates=plan.profile.profile.budget,
        provenance=Provenance(
            plan=plan.digest(),
            calibration=inputs.calibration.digest if inputs.calibration else None,
            evaluation=scored.samples.digest if scored else None,
            training=inputs.training.digest if inputs.training else None,
            tools=tools(),
            calibration_samples=len(inputs.calibration) if inputs.calibration else None,
            evaluation_samples=len(scored.samples) if scored else None,
        ),
    )


def created() -> str:
    """RFC 3339 of SOURCE_DATE_EPOCH (reproducible-builds.org), else the epoch: a clock would change the bytes."""
    value = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not value.isdigit():
        raise InputError(f"SOURCE_DATE_EPOCH is {value!r}", expected="seconds since 1970-01-01, for example 1700000000")
    return datetime.fromtimestamp(int(value), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _quantized(kept: Sequence[Made]) -> tuple[Quantizing, ...]:
    return tuple(
        Quantizing(made.variant.id, made.measured.notes, made.measured.layers) for made in kept if made.measured.notes
    )


def _record(made: Made) -> VariantRecord:
    variant = made.variant
    return VariantRecord(
        id=variant.id,
        format=variant.format,
        runtime=variant.runtime,
        precision=variant.precision,
        sparsity=variant.sparsity,
        digest=variant.digest,
        size=variant.size_bytes,
        score=variant.score,
        drop=variant.drop,
        parity=variant.parity,
        recipe=variant.recipe,
        golden=digest.of_file(made.golden),
        golden_size=made.golden.stat().st_size,
        tolerance=made.measured.tolerance,
    )


def _locks(plan: Plan, kept: Sequence[Made], progress: Progress) -> tuple[RuntimeLock, ...]:
    """For each runtime that a kept variant needs, one lock a system that the profile names."""
    profile = plan.profile.profile
    runtimes = dict.fromkeys(made.variant.runtime for made in kept)
    platforms = [
        Platform(system.python, profile.device.machine, "glibc", system.glibc) for system in profile.device.systems
    ]
    return tuple(
        wheels.lock_for(runtime, profile.runtimes[runtime], platform, progress)
        for runtime in runtimes
        if profile.runtimes[runtime].provider == "wheels"
        for platform in platforms
    )


def _lock_record(lock: RuntimeLock) -> LockRecord:
    data = digest.canonical_json(lock)
    return LockRecord(lock.digest(), len(data), lock.runtime, lock.python, lock.machine)
