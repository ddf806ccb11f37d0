"""What a search may choose from: the profile's precisions and formats, and ways to prune up to the profile's most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, assert_never, get_args

from msgspec import Struct, structs

from edgepack import digest
from edgepack.digest import Digest
from edgepack.names import FileFormat, Precision
from edgepack.plan import Plan
from edgepack.recipe import (
    STATIC,
    Convert,
    Correct,
    Importance,
    Prune,
    Quantize,
    RangeMethod,
    Recipe,
    Recover,
    Rehearse,
    Scope,
    Step,
    format_of,
    is_rehearsed,
    precision_of,
    sparsity_of,
)

SPARSITY_STEPS = 4
CUTS = (1, 2, 4, 8)
"""How many layers `mixed` may leave in float, beside as many as it finds to help."""


class Point(Struct, frozen=True):
    """One choice on every axis.

    importance, scope, epochs mean something where channels are pruned; ranges, correct where activations are quantized;
    cuts where some layers stay in float (None: the quantizer searches for how many)
    """

    format: FileFormat
    precision: Precision
    sparsity: float = 0.0
    rehearsed: bool = False
    importance: Importance = "magnitude"
    scope: Scope = "layer"
    epochs: int = 0
    ranges: RangeMethod = "auto"
    correct: Correct = "auto"
    cuts: int | None = None


class Axis(Struct, frozen=True):
    """name: a field of `Point`; ordered: neighbours are alike, which a sampler may use"""

    name: str
    values: tuple[Any, ...]
    ordered: bool = False


@dataclass(frozen=True)
class Space:
    """plan: what `build` would make, which is where a search begins; axes: what may differ, each with two values or more"""

    plan: Plan
    axes: tuple[Axis, ...]

    @cached_property
    def points(self) -> dict[Digest, Point]:
        """One point for every recipe, by the recipe's key, the same order each time."""
        first = point_of(self.plan.recipes[0])
        names = [axis.name for axis in self.axes]
        every = (
            structs.replace(first, **dict(zip(names, values, strict=True)))
            for values in product(*(axis.values for axis in self.axes))
        )
        return {key_of(self.recipe(point)): point for point in dict.fromkeys(map(self.settled, every))}

    def starts(self) -> tuple[Point, ...]:
        """What `build` would make: tried first, so that a search never ends with less."""
        return tuple(point_of(recipe) for recipe in self.plan.recipes)

    def settled(self, point: Point) -> Point:
        """The same recipe, with what means nothing in it at its default."""
        rehearsed = point.rehearsed and any(is_rehearsed(recipe) for recipe in self._alike(point))
        plain = Point(format=point.format, precision=point.precision, rehearsed=rehearsed)
        if point.sparsity:
            plain = structs.replace(
                plain, sparsity=point.sparsity, importance=point.importance, scope=point.scope, epochs=point.epochs
            )
        if point.precision in STATIC:
            plain = structs.replace(plain, ranges=point.ranges, correct=point.correct)
        return structs.replace(plain, cuts=point.cuts) if point.precision == "mixed" else plain

    def recipe(self, point: Point) -> Recipe:
        """The plan's recipe for that format and precision, with the point's values in its steps.

        A precision that nobody rehearses is quantized without; `mixed`, where the plan has none, is `w8a8` with cuts.
        """
        alike = self._alike(point)
        base = next((recipe for recipe in alike if is_rehearsed(recipe) == point.rehearsed), alike[0])
        return tuple(self._with(step, point) for step in base)

    def _alike(self, point: Point) -> list[Recipe]:
        stand_in = point.precision == "mixed" and all(precision != "mixed" for _, precision, _ in self._families)
        precision = "w8a8" if stand_in else point.precision
        alike = self._families.get((point.format, precision, bool(point.sparsity)), [])
        return [recipe for recipe in alike if not (stand_in and is_rehearsed(recipe))]

    @cached_property
    def _families(self) -> dict[tuple[FileFormat, Precision, bool], list[Recipe]]:
        """The plan's recipes by what a point cannot change about one: format, precision, whether anything is pruned."""
        families: dict[tuple[FileFormat, Precision, bool], list[Recipe]] = {}
        for recipe in self.plan.recipes:
            kind = (format_of(recipe), precision_of(recipe), bool(sparsity_of(recipe)))
            families.setdefault(kind, []).append(recipe)
        return families

    def _with(self, step: Step, point: Point) -> Step:
        match step:
            case Prune():
                return structs.replace(step, sparsity=point.sparsity, importance=point.importance, scope=point.scope)
            case Recover():
                return structs.replace(step, epochs=point.epochs)
            case Quantize() if point.precision in STATIC:
                step = structs.replace(step, precision=point.precision, ranges=point.ranges, correct=point.correct)
                most = self.plan.profile.profile.budget.max_drop
                if point.precision != "mixed":
                    return step
                return structs.replace(step, cuts=point.cuts, max_drop=step.max_drop if most is None else most)
            case Rehearse() | Convert() | Quantize():
                return step
            case _:
                assert_never(step)


def space_of(plan: Plan) -> Space:
    """Everything that this plan's profile, model and data allow."""
    points = [point_of(recipe) for recipe in plan.recipes]
    precisions = list(dict.fromkeys(point.precision for point in points))
    if {"w8a8", "fp32"} <= set(precisions) and "mixed" not in precisions:
        precisions.append("mixed")  # of kinds of arithmetic that the profile allows
    axes = [
        Axis("format", tuple(dict.fromkeys(point.format for point in points))),
        Axis("precision", tuple(precisions)),
        Axis("rehearsed", tuple(dict.fromkeys(point.rehearsed for point in points))),
        *_pruning(points),
        *_quantizing(precisions),
    ]
    return Space(plan, tuple(axis for axis in axes if len(axis.values) > 1))


def _quantizing(precisions: Sequence[Precision]) -> Iterator[Axis]:
    """How ranges are taken, whether biases are corrected, how many layers stay in float."""
    if set(precisions) & set(STATIC):
        yield Axis("ranges", get_args(RangeMethod))
        yield Axis("correct", get_args(Correct))
    if "mixed" in precisions:
        yield Axis("cuts", (None, *CUTS))


def _pruning(points: Sequence[Point]) -> Iterator[Axis]:
    """How much, by what measure, and how long it is recovered from; the project's own values among them."""
    pruned = [point for point in points if point.sparsity]
    if not pruned:
        return
    most, own = max(point.sparsity for point in pruned), pruned[0]
    whole = len(pruned) < len(points)  # else the profile wants nothing that is not pruned
    steps = {round(most * step / SPARSITY_STEPS, 4) for step in range(0 if whole else 1, SPARSITY_STEPS)}
    yield Axis("sparsity", tuple(sorted(steps | {point.sparsity for point in points})), ordered=True)
    yield Axis("importance", tuple(dict.fromkeys((own.importance, "magnitude", "taylor"))))
    yield Axis("scope", tuple(dict.fromkeys((own.scope, "layer", "global"))))
    epochs = {own.epochs, max(1, own.epochs // 2), own.epochs * 2}
    yield Axis("epochs", tuple(sorted(epochs)), ordered=True)


def point_of(recipe: Recipe) -> Point:
    point = Point(
        format=format_of(recipe),
        precision=precision_of(recipe),
        sparsity=sparsity_of(recipe),
        rehearsed=is_rehearsed(recipe),
    )
    for step in recipe:
        match step:
            case Prune(importance=importance, scope=scope):
                point = structs.replace(point, importance=importance, scope=scope)
            case Recover(epochs=epochs):
                point = structs.replace(point, epochs=epochs)
            case Quantize(ranges=ranges, correct=correct, cuts=cuts):
                point = structs.replace(point, ranges=ranges, correct=correct, cuts=cuts)
            case _:
                pass
    return point


def key_of(recipe: Recipe) -> Digest:
    """Two points with the same key are the same work."""
    return digest.of_value(recipe)


def describe(recipe: Recipe) -> str:
    """For people, short: `w8a8-s25 onnx (taylor, global, 40 epochs; entropy)`. What is as usual goes unsaid."""
    point = point_of(recipe)
    pruned = f"-s{round(point.sparsity * 100):02d}" if point.sparsity else ""
    rehearsed = "-qat" if point.rehearsed else ""
    ways = [
        f"{point.importance}, {point.scope}, {point.epochs} epochs" if point.sparsity else "",
        point.ranges if point.ranges != "auto" else "",
        f"correction {point.correct}" if point.correct != "auto" else "",
        f"{point.cuts} in float" if point.cuts is not None else "",
    ]
    how = "; ".join(way for way in ways if way)
    return f"{point.precision}{pruned}{rehearsed} {point.format}{f' ({how})' if how else ''}"
