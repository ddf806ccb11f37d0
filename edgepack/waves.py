"""Which boards when, and whether to go on: the decisions of a fleet update, from what was recorded so far. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.errors import UsageError
from edgepack.report import Comparison
from edgepack.target import Target


@dataclass(frozen=True)
class Trial:
    """A canary after its push.

    failure: why its push failed or its health check sent it back, else empty
    comparison: the new release over the one before, None where that could not be measured, and then `unmeasured` says why
    first: there was no release before, so that nothing can have got slower
    """

    target: str
    failure: str = ""
    comparison: Comparison | None = None
    unmeasured: str = ""
    first: bool = False


@dataclass(frozen=True)
class Proceed:
    """remarks: what an operator should know all the same."""

    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stop:
    reason: str
    remarks: tuple[str, ...] = ()


Decision = Proceed | Stop


@dataclass(frozen=True)
class Order:
    """canaries: together first; batches: the rest, each batch when the one before is done."""

    canaries: tuple[Target, ...]
    batches: tuple[tuple[Target, ...], ...]


def order(targets: Sequence[Target], canaries: Sequence[Target], batch: int) -> Order:
    """Canaries, then the rest in inventory order, at most `batch` boards at once.

    Canaries outside `targets` are left alone. Raises UsageError where none is left, or for a batch below 1.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} boards", expected="1 or more")
    wanted = {target.name for target in canaries}
    first = tuple(target for target in targets if target.name in wanted)
    if not first:
        raise UsageError(
            "none of the targets is a canary",
            expected="at least one target that the canary expression matches",
            advice='label one with `labels = { ring = "canary" }`, or name one with --canary',
        )
    rest = [target for target in targets if target.name not in wanted]
    return Order(first, tuple(tuple(rest[at : at + batch]) for at in range(0, len(rest), batch)))


def gate(trials: Sequence[Trial]) -> Decision:
    """Whether the rest of the fleet may follow its canaries.

    No, if the push to one failed, one could not be measured, or one got slower by more than the comparison's margin; also if
    the best estimate is beyond the margin but cannot be told from noise: not knowing is no reason to go on.
    """
    problems = [problem for trial in trials if (problem := _problem(trial))]
    remarks = tuple(remark for trial in trials if (remark := _remark(trial)))
    if problems:
        return Stop("; ".join(problems), remarks)
    return Proceed(remarks)


def unclear(trial: Trial) -> bool:
    """Whether measuring again could change what the gate says: a slow-down was seen, or could not be ruled out."""
    return trial.comparison is not None and not trial.comparison.excluded


def _problem(trial: Trial) -> str:
    if trial.failure:
        return f"canary {trial.target}: {trial.failure}"
    found = trial.comparison
    if found is None:
        return "" if trial.first else f"canary {trial.target} could not be measured: {trial.unmeasured}"
    if found.regression:
        return f"canary {trial.target} got slower: {describe(found)}, the margin is {found.margin:.0%}"
    if found.ratio > 1 + found.margin:
        return (
            f"canary {trial.target} seems slower: {describe(found)}, the margin is {found.margin:.0%}; "
            "that cannot be told from noise: measure with more processes, or on a quieter board"
        )
    return ""


def _remark(trial: Trial) -> str:
    if trial.first and not trial.failure:
        return f"{trial.target}: no release before to compare with"
    found = trial.comparison
    if found is None:
        return ""
    if found.validity == "invalid":
        return f"{trial.target}: {describe(found)}, but not as a device's latency: {'; '.join(found.reasons[:1])}"
    if found.ratio <= 1 + found.margin and not found.excluded:
        return f"{trial.target}: {describe(found)}: slower by more than {found.margin:.0%} is not ruled out"
    return ""


def describe(found: Comparison) -> str:
    """`× 1.034 (95 %: 1.010 … 1.058)`"""
    low, high = found.interval
    return f"× {found.ratio:.3f} (95 %: {low:.3f} … {high:.3f})"


def budget(failed: int, total: int, share: float) -> Decision:
    """Whether the rest may go on with `failed` of its `total` boards failed: not once they are more than that share of it."""
    if failed > share * total:
        return Stop(f"{failed} of {total} boards failed, more than {share:.0%}")
    return Proceed()
