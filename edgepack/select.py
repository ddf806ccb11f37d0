"""Which variants are packed: budgets, then the Pareto front, then a default. Every verdict has a reason. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from msgspec import Struct

from edgepack.names import Precision, VariantId
from edgepack.profile import Profile
from edgepack.recipe import Recipe, is_rehearsed, precision_of
from edgepack.variant import Built, Failed, Judged

MINIMUM_SQNR_DB = 10.0
"""Below this a variant that nobody scored is taken for broken: its noise is a third of its signal."""


class Scales(Struct, frozen=True):
    """By what cost is told: latencies that a board measured, or the order in which arithmetic is expected to cost time."""

    profile: Profile
    measured: bool

    def cost(self, variant: Built) -> float:
        if self.measured:
            assert variant.latency_ms is not None
            return variant.latency_ms
        # Fewer channels never cost more; the step between kinds of arithmetic is larger than any sparsity.
        return expected_cost(variant.precision, self.profile.device.isa) - variant.sparsity / 2


class Selection(Struct, frozen=True):
    """judged: every variant, in the order given; default: the selected one, None where none met the budget"""

    judged: tuple[Judged, ...]
    default: VariantId | None


def select(variants: Sequence[Built | Failed], profile: Profile) -> Selection:
    """Reject what failed, breaks a budget or is no better than another; name a default among the rest.

    Latencies count where every variant that meets the budget was measured, else an expected cost stands in their place.
    Two variants of different formats are compared only where both were measured: which runtime suits a board is known then.
    """
    reasons = {variant.id: _budget_reason(variant, variants, profile) for variant in variants}
    met = [variant for variant in variants if isinstance(variant, Built) and reasons[variant.id] is None]
    scales = Scales(profile, measured=all(variant.latency_ms is not None for variant in met))
    for variant in met:
        if rival := next((other for other in met if _dominates(other, variant, scales)), None):
            reasons[variant.id] = f"no better than {rival.id} in {_measures(variant, scales)}"
    front = [variant for variant in met if reasons[variant.id] is None]
    default = min(front, key=lambda variant: _preference(variant, scales)).id if front else None
    return Selection(tuple(_judge(variant, reasons[variant.id], default, scales) for variant in variants), default)


def worth_measuring(variants: Sequence[Built | Failed], profile: Profile) -> tuple[Built, ...]:
    """What a board should measure: all that breaks no budget that is known without one. Which is best is seen there."""
    return tuple(
        variant
        for variant in variants
        if isinstance(variant, Built) and _budget_reason(variant, variants, profile) is None
    )


def expected_cost(precision: Precision, isa: Sequence[str]) -> int:
    """The order in which arithmetic is expected to cost time, cheapest first; measuring overrules it.

    Static int8 never converts between operators; dynamic int8 computes ranges at run time; half precision is float
    arithmetic where the core has none of its own (before ARMv8.2), 16-bit activations have no fast kernels.
    """
    match precision:
        case "w8a8":
            return 0
        case "mixed":
            return 1
        case "w8d":
            return 2
        case "fp16":
            return 2 if "fp16" in isa else 3
        case "fp32" | "w8" | "w4":
            return 3
        case "w8a16":
            return 4
        case _:
            assert_never(precision)


def needless(recipe: Recipe, made: Sequence[Built | Failed], profile: Profile) -> str:
    """Why a variant need not be made after those that were, in words; empty where it should be.

    Leaving layers in float costs time on a device and many trials here: it is for models that `w8a8` takes beyond the budget.
    """
    if precision_of(recipe) != "mixed":
        return ""
    alike = (
        variant
        for variant in made
        if isinstance(variant, Built) and variant.precision == "w8a8" and variant.recipe[:-1] == recipe[:-1]
    )
    sufficient = next((variant for variant in alike if _budget_reason(variant, made, profile) is None), None)
    return f"{sufficient.id} keeps the budget with every layer in integers" if sufficient else ""


def _budget_reason(variant: Built | Failed, variants: Sequence[Built | Failed], profile: Profile) -> str | None:
    if isinstance(variant, Failed):
        return variant.reason
    budget = profile.budget
    size_mb = variant.size_bytes / 1e6
    if budget.max_drop is not None and variant.drop is not None and variant.drop > budget.max_drop + 1e-9:
        return f"drops {variant.drop:.4f}, budget max_drop {budget.max_drop:g}"
    if variant.drop is None and variant.precision != "fp32" and variant.parity.sqnr_db < MINIMUM_SQNR_DB:
        return f"SQNR {variant.parity.sqnr_db:.1f} dB is below {MINIMUM_SQNR_DB:g}, and no evaluation data excuses it"
    if budget.max_size_mb is not None and size_mb > budget.max_size_mb:
        return f"is {size_mb:.2f} MB, budget max_size_mb {budget.max_size_mb:g}"
    if budget.max_p90_ms is not None and variant.p90_ms is not None and variant.p90_ms > budget.max_p90_ms:
        return f"takes {variant.p90_ms:.2f} ms (p90, measured), budget max_p90_ms {budget.max_p90_ms:g}"
    if budget.max_memory_mb is not None and variant.memory_mb is not None and variant.memory_mb > budget.max_memory_mb:
        return f"needs {variant.memory_mb:.0f} MB (measured), budget max_memory_mb {budget.max_memory_mb:g}"
    return _slower_than_parent(variant, variants)


def _slower_than_parent(variant: Built, variants: Sequence[Built | Failed]) -> str | None:
    """Slower beyond noise: the interval of its latency over its float parent's, measured together, lies above 1."""
    for one in variant.measured:
        ratio = one.against_parent
        if ratio is not None and ratio.low > 1 and one.verdict != "invalid":
            return (
                f"measured slower than its float parent on {one.target}: {ratio.value:.2f} × its latency "
                f"(95 % interval {ratio.low:.2f} … {ratio.high:.2f})"
            )
    if variant.measured:
        return None
    parent = next((other for other in variants if isinstance(other, Built) and _is_float_of(other, variant)), None)
    if (
        parent is None
        or variant.latency_ms is None
        or parent.latency_ms is None
        or variant.latency_ms <= parent.latency_ms
    ):
        return None
    return f"measured slower than its float parent: {variant.latency_ms:.3f} against {parent.latency_ms:.3f} ms"


def _is_float_of(parent: Built, variant: Built) -> bool:
    same = (parent.format, parent.sparsity) == (variant.format, variant.sparsity)
    return same and parent.precision == "fp32" and variant.precision != "fp32"


def quality(variant: Built) -> float:
    """Higher is better: minus the drop where it was scored, else the SQNR."""
    return -variant.drop if variant.drop is not None else variant.parity.sqnr_db


def _dominates(rival: Built, variant: Built, scales: Scales) -> bool:
    if rival.id == variant.id or (rival.format != variant.format and not scales.measured):
        return False
    ours = (-quality(variant), variant.size_bytes, scales.cost(variant))
    theirs = (-quality(rival), rival.size_bytes, scales.cost(rival))
    if theirs == ours:  # training that gained nothing that was measured is not kept
        return is_rehearsed(variant.recipe) and not is_rehearsed(rival.recipe)
    return all(their <= our for their, our in zip(theirs, ours, strict=True))


def _measures(variant: Built, scales: Scales) -> str:
    goodness = "score" if variant.drop is not None else "SQNR"
    return f"{goodness}, size and {'measured latency' if scales.measured else 'expected cost'}"


def _preference(variant: Built, scales: Scales) -> tuple[float, int, float, str]:
    runtime = list(scales.profile.runtimes).index(variant.runtime)
    return (scales.cost(variant), runtime, -quality(variant), variant.id)


def _judge(variant: Built | Failed, reason: str | None, default: VariantId | None, scales: Scales) -> Judged:
    if reason is not None:
        return Judged(variant, "rejected", reason)
    if variant.id == default:
        how = "measured" if scales.measured else "expected"
        return Judged(variant, "selected", f"within the budget, the cheapest {how}")
    return Judged(variant, "kept", "within the budget, on the front of score, size and cost")
