"""From a board's latencies under a load to a LoadGen-style result. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from edgepack.early_stopping import allowed_over, least_queries, percentile_estimate, sample_percentile
from edgepack.trials import EarlyStopping, Load, Scenario, ScenarioKind


def percentile_of(kind: ScenarioKind) -> float | None:
    """The percentile that counts, as the MLPerf inference rules have it; Offline has none."""
    match kind:
        case "SingleStream":
            return 0.90
        case "MultiStream" | "Server":
            return 0.99
        case "Offline":
            return None
        case _:
            assert_never(kind)


def least_of(kind: ScenarioKind) -> int:
    """How many queries a load must issue before early stopping can be met; one query is all of Offline."""
    percentile = percentile_of(kind)
    return 1 if percentile is None else least_queries(percentile)


def conclude(
    load: Load, latencies: Sequence[int], taken_ns: int, runtime_version: str, target_latency_ns: int = 0
) -> Scenario:
    """latencies: in ns, in the order of queries, at least one; target_latency_ns: of Server, above zero there"""
    ordered = sorted(latencies)
    percentile = percentile_of(load.kind)
    stopping = _stopping(load.kind, ordered, target_latency_ns)
    at = None if percentile is None else sample_percentile(ordered, percentile)
    samples = len(latencies) * load.samples_per_query
    target = target_latency_ns if load.kind == "Server" else None
    reasons = _reasons(load, taken_ns, stopping, at, target)
    return Scenario(
        kind=load.kind,
        load=load,
        runtime_version=runtime_version,
        queries=1 if load.kind == "Offline" else len(latencies),
        samples=samples,
        taken_s=taken_ns / 1e9,
        throughput_per_s=samples / (ordered[-1] if load.kind == "Offline" else taken_ns) * 1e9,
        percentile_ns=at,
        target_latency_ns=target,
        early_stopping=stopping,
        met=not reasons,
        reasons=tuple(reasons),
        latencies_ns=tuple(latencies),
    )


def _stopping(kind: ScenarioKind, ordered: Sequence[int], target: int) -> EarlyStopping | None:
    percentile = percentile_of(kind)
    if percentile is None:
        return None
    least, count = least_queries(percentile), len(ordered)
    if kind == "Server":
        over = sum(latency > target for latency in ordered)
        needed = least_queries(percentile, over)
        return EarlyStopping(
            met=count >= needed, percentile=percentile, least_queries=least, over=over, more=max(0, needed - count)
        )
    estimate = percentile_estimate(ordered, percentile)
    over = 0 if estimate is None else allowed_over(count, percentile)
    return EarlyStopping(
        met=estimate is not None,
        percentile=percentile,
        least_queries=least,
        over=over,
        more=max(0, least - count),
        estimate_ns=estimate,
    )


def _reasons(
    load: Load, taken_ns: int, stopping: EarlyStopping | None, at: int | None, target: int | None
) -> list[str]:
    reasons = []
    if taken_ns < load.seconds * 1e9:
        reasons.append(f"ended after {taken_ns / 1e9:.1f} s, before its {load.seconds:g} s")
    if stopping is not None and not stopping.met:
        reasons.append(
            f"early stopping is not met: {stopping.more} more queries, all under the latency, would be needed for the "
            f"{stopping.percentile:.0%} percentile"
        )
    if at is not None and target is not None and at > target:
        reasons.append(
            f"the 99 % percentile is {at / 1e6:.2f} ms, above the target of {target / 1e6:g} ms: "
            f"{load.target_qps:g} queries a second are too many"
        )
    return reasons
