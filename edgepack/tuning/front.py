"""Which trials are worth a second look: the front of score, size and cost, one a variant name. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from edgepack import select
from edgepack.digest import Digest
from edgepack.select import Scales
from edgepack.variant import Built

MOST_DB = 300.0
"""An exact copy has no noise; a sampler cannot work with infinity."""


class Outcome(Struct, frozen=True, kw_only=True):
    """A trial that ended: what it made, seen on the search's half. worker: which process, `host:pid`"""

    number: int
    key: Digest
    built: Built
    seconds: float
    worker: str


def objectives(built: Built, scales: Scales) -> tuple[float, float, float]:
    """What a search makes small: what is lost (of the metric, else minus the SQNR in dB), bytes, cost (ms where measured)."""
    return -min(select.quality(built), MOST_DB), float(built.size_bytes), scales.cost(built)


def front(outcomes: Sequence[Outcome], scales: Scales) -> tuple[Outcome, ...]:
    """Those within the budget that none other beats, in their order. Where none is within it, all count."""
    within = [one for one in outcomes if select.worth_measuring([one.built], scales.profile)] or list(outcomes)
    values = {one.number: objectives(one.built, scales) for one in within}
    return tuple(one for one in within if not any(_beats(values[other.number], values[one.number]) for other in within))


def finalists(outcomes: Sequence[Outcome], scales: Scales) -> tuple[Outcome, ...]:
    """Of the front, for each variant name the one that costs least, then loses least: a bundle holds a name once."""
    best: dict[str, Outcome] = {}
    for one in front(outcomes, scales):
        held = best.get(one.built.id)
        if held is None or _order(one, scales) < _order(held, scales):
            best[one.built.id] = one
    return tuple(best.values())


def _beats(rival: tuple[float, ...], ours: tuple[float, ...]) -> bool:
    return rival != ours and all(their <= our for their, our in zip(rival, ours, strict=True))


def _order(one: Outcome, scales: Scales) -> tuple[float, float, float, int]:
    lost, size, cost = objectives(one.built, scales)
    return cost, lost, size, one.number
