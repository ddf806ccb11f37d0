"""The verbs as functions, for scripts: the command line's defaults, no printing. Public through `edgepack` itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgepack import delivery, exchange, measure, pipeline
from edgepack.bundle import Bundle
from edgepack.delivery import PushResult, RollbackResult, TargetStatus
from edgepack.pipeline import Result
from edgepack.ports import Progress, Silent
from edgepack.report import BenchProtocol, Comparison, Report
from edgepack.target import Target

_SILENT: Progress = Silent()


def build(
    source: str | Path,
    profiles: Sequence[str] = (),
    out: str | Path = ".",
    *,
    progress: Progress = _SILENT,
    **tables: Any,
) -> tuple[Result, ...]:
    """Build, verify, score, select and pack: one bundle a profile, written to `out`.

    source: a model file, a SavedModel folder, `file.py:callable`, or a folder with an edgepack.toml; tables: what its
    edgepack.toml would hold, e.g. `name="kws", data={"calibration": "x.npz"}`. Raises InputError, GateError, UsageError.
    """
    named = exchange.source_of(str(source), progress)
    return pipeline.build(pipeline.request(named, profiles, tables), Path(out), progress)


def push(
    bundle: Bundle,
    targets: Sequence[Target],
    *,
    allow_unsigned: bool = False,
    downgrade: bool = False,
    dry_run: bool = False,
    variants: Sequence[str] = (),
    progress: Progress = _SILENT,
) -> tuple[PushResult, ...]:
    """Install and activate a bundle on each target. What goes wrong on one board is its result; the others go on.

    variants: ids to install beside the one that becomes active, to be measured or chosen by an application
    """
    return delivery.push(
        bundle,
        targets,
        allow_unsigned=allow_unsigned,
        downgrade=downgrade,
        dry_run=dry_run,
        variants=variants,
        progress=progress,
    )


def bench(
    bundle: Bundle,
    targets: Sequence[Target],
    protocol: BenchProtocol = BenchProtocol(),  # noqa: B008 - frozen
    variant: str = "",
    *,
    progress: Progress = _SILENT,
) -> tuple[Report, ...]:
    """Measure the bundle's release on each target that runs it. Raises BoardError."""
    return measure.bench(bundle, targets, protocol, variant, progress)


def compare(before: Report, after: Report, margin: float = 0.05, *, anyway: bool = False) -> Comparison:
    """The ratio of two reports' medians, with its interval and a verdict.

    anyway: also where the board, its conditions or the protocol differ, which raises InputError otherwise
    """
    if not anyway:
        measure.ensure_comparable(before, after)
    return measure.compare(before, after, margin)


def status(targets: Sequence[Target], *, progress: Progress = _SILENT) -> tuple[TargetStatus, ...]:
    """What is installed on each target, every file hashed there."""
    return delivery.status(targets, progress)


def rollback(targets: Sequence[Target], name: str, *, progress: Progress = _SILENT) -> tuple[RollbackResult, ...]:
    """Activate on each target the release of `name` that was active before."""
    return delivery.rollback(targets, name, progress)
