"""Latencies of variants that no board measured: intervals from published tables, or from what the user measured before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgepack import history
from edgepack.errors import InputError
from edgepack.estimate import Estimate, NoEstimate, Own, core_of, count, estimate, fitted, lacking
from edgepack.names import VariantId, parts_of
from edgepack.pipeline.make import Made
from edgepack.plan import Plan
from edgepack.report import Report
from edgepack.work import Work

Estimates = Mapping[VariantId, Estimate | NoEstimate]


def estimates(plan: Plan, made: Sequence[Made], warn: Callable[[str], None]) -> Estimates:
    """One for each variant that was not measured. A variant that cannot be counted has none, with the reason.

    warn: told each file of the history that is no report, on which no estimate rests then
    """
    own = own_reports(history.everything(warn), plan.profile.name)
    known = fitted()
    found: dict[VariantId, Estimate | NoEstimate] = {}
    for one in made:
        variant = one.variant
        if variant.latency_ms is not None:
            continue
        if core_of(plan.profile) is None and not own:
            found[variant.id] = NoEstimate(
                f"no published table has a board of the profile {plan.profile.name}; "
                + lacking(variant.runtime, variant.precision, 0)
            )
            continue
        work = _count(one)
        if isinstance(work, Work):
            found[variant.id] = estimate(known, plan.profile, variant.runtime, variant.precision, work, own)
        else:
            found[variant.id] = work
    return found


def _count(made: Made) -> Work | NoEstimate:
    try:
        return count(made.model, made.variant.format)
    except InputError as error:
        return NoEstimate(error.what)


def own_reports(reports: Sequence[Report], profile: str) -> tuple[Own, ...]:
    """What of a history says something of this profile's boards: one thread, one sample at a time, and believed.

    Stand-ins are never valid, so that none of their latencies becomes a device's.
    """
    found = []
    for report in reports:
        parts = parts_of(report.variant, report.bundle.name)
        if report.validity.verdict != "valid" or report.work is None or parts is None or parts.profile != profile:
            continue
        if report.runtime.threads == 1 and report.protocol.batch == 1:
            ms = report.summary.p50_ns / 1e6
            found.append(Own(report.bundle.name, report.runtime.name, parts.precision, report.work, ms))
    return tuple(found)
