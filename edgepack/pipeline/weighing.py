"""Variants on the scales: packed for the moment under a name that nobody uses, measured by boards, and read off."""

from __future__ import annotations

import getpass
import socket
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from msgspec import structs

from edgepack import digest, select
from edgepack.bundle import Bundle
from edgepack.home import home
from edgepack.names import NAME, VariantId
from edgepack.pipeline.make import Made, Workshop, candidate
from edgepack.plan import Plan
from edgepack.recipe import float_parent
from edgepack.variant import Built, Failed, Measurement

Weighed = tuple[Measurement, ...] | str
"""What each board measured of a variant, or why a board cannot use it."""

_LONGEST = 64


class Weigh(Protocol):
    """What has boards measure a bundle's variants, without changing what applications there use.

    parents: of each variant whose latency is wanted its float parent in the same bundle, None where it has none
    """

    def __call__(
        self, bundle: Bundle, profile: str, parents: Mapping[VariantId, VariantId | None]
    ) -> Mapping[VariantId, Weighed]: ...


class Pack(Protocol):
    def __call__(self, plan: Plan, kept: Sequence[Made], default: str, folder: Path) -> Bundle: ...


def weigh(workshop: Workshop, made: Sequence[Made | Failed], packed: Pack, scales: Weigh) -> list[Made | Failed]:
    """The variants with what boards measured of those that break no budget yet; what a board cannot use has failed.

    A float parent that nobody asked for is made and measured too: a variant must not be slower than that.
    """
    plan = workshop.plan
    built = [each for each in made if isinstance(each, Made)]
    worth = {one.id for one in select.worth_measuring([candidate(each) for each in made], plan.profile.profile)}
    subjects = [each for each in built if each.variant.id in worth]
    if not subjects:
        return list(made)
    beside, parents = _parents(workshop, built, subjects)
    results = _ask(plan, [*subjects, *beside], parents, packed, scales)
    return [_with(each, results.get(candidate(each).id)) for each in made]


def weigh_alone(plan: Plan, made: Made, packed: Pack, scales: Weigh) -> Made | Failed:
    """One variant with what boards measured of it, and nothing of its float parent."""
    return _with(made, _ask(plan, [made], {made.variant.id: None}, packed, scales).get(made.variant.id))


def _ask(
    plan: Plan, made: Sequence[Made], parents: Mapping[VariantId, VariantId | None], packed: Pack, scales: Weigh
) -> Mapping[VariantId, Weighed]:
    with tempfile.TemporaryDirectory() as folder:
        passing = structs.replace(plan, name=passing_name(plan.name))
        bundle = packed(passing, made, made[0].variant.id, Path(folder))
        return scales(bundle, plan.profile.name, parents)


def passing_name(name: str) -> str:
    """What a board knows a bundle as while it is measured: this user's and this home's own, so that no two meet there."""
    who = digest.of_value((getpass.getuser(), socket.gethostname(), str(home())))
    own = f".measured-{digest.hex_of(who)[:8]}"
    passing = name[: _LONGEST - len(own)].rstrip(".") + own
    assert NAME.fullmatch(passing)
    return passing


def _parents(
    workshop: Workshop, built: Sequence[Made], subjects: Sequence[Made]
) -> tuple[list[Made], dict[VariantId, VariantId | None]]:
    """The float parents that are not among the subjects, and whose parent each is."""
    known = {each.variant.recipe: each for each in built}
    chosen = {each.variant.recipe for each in subjects}
    beside: list[Made] = []
    parents: dict[VariantId, VariantId | None] = {}
    for each in subjects:
        recipe = float_parent(each.variant.recipe)
        parent = None if recipe is None else known.get(recipe) or workshop.make(recipe)
        parents[each.variant.id] = parent.variant.id if isinstance(parent, Made) else None
        if isinstance(parent, Made) and parent.variant.recipe not in chosen:
            chosen.add(parent.variant.recipe)
            beside.append(parent)
    return beside, parents


def _with(made: Made | Failed, weighed: Weighed | None) -> Made | Failed:
    if weighed is None or isinstance(made, Failed):
        return made
    variant = made.variant
    if isinstance(weighed, str):
        return Failed(
            id=variant.id,
            format=variant.format,
            precision=variant.precision,
            sparsity=variant.sparsity,
            reason=weighed,
            parity=variant.parity,
            on_board=True,
        )
    return replace(made, variant=with_measurements(variant, weighed))


def with_measurements(variant: Built, measured: tuple[Measurement, ...]) -> Built:
    """The slowest board's figures; none where one of them cannot tell (an emulated board, one that throttled)."""
    if any(one.verdict == "invalid" for one in measured) or not measured:
        return structs.replace(variant, measured=measured)
    return structs.replace(
        variant,
        latency_ms=max(one.p50_ms for one in measured),
        p90_ms=max(one.p90_ms for one in measured),
        memory_mb=max(one.memory_mb for one in measured),
        measured=measured,
    )
