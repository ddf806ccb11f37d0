"""What a search may choose from: the profile's precisions and formats, and ways to prune up to the profile's most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, assert_never

from msgspec import Struct, structs

from edgepack import digest
from edgepack.digest import Digest
from edgepack.names import FileFormat, Precision
from edgepack.plan import Plan
from edgepack.recipe import (
    Convert,
    Importance,
    Prune,
    Quantize,
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


class Point(Struct, frozen=True):
    """One choice on every axis. The last three mean something where channels are pruned alone."""

    format: FileFormat
    precision: Precision
    sparsity: float = 0.0
    rehearsed: bool = False
    importance: Importance = "magnitude"
    scope: Scope = "layer"
    epochs: int = 0


class Axis(Struct, frozen=True):
    """name: a field of `Point`; ordered: neighbours are alike, which a sampler may use"""

    name: str
    values: tuple[Any, ...]
    ordered: bool = False


class Space(Struct, frozen=True):
    """plan: what `build` would make, which is where a search begins; axes: what may differ, each with two values or more"""

    plan: Plan
    axes: tuple[Axis, ...]

    def points(self) -> Iterator[Point]:
        """Every point, the same order each time. Two points may stand for one recipe."""
        first = point_of(self.plan.recipes[0])
        for values in product(*(axis.values for axis in self.axes)):
            yield structs.replace(first, **dict(zip((axis.name for axis in self.axes), values, strict=True)))

    def starts(self) -> tuple[Point, ...]:
        """What `build` would make: tried first, so that a search never ends with less."""
        return tuple(point_of(recipe) for recipe in self.plan.recipes)

    def recipe(self, point: Point) -> Recipe:
        """The plan's recipe for that format and precision, with the point's values in its steps.

        A precision that nobody rehearses is quantized without.
        """
        alike = [
            recipe
            for recipe in self.plan.recipes
            if (format_of(recipe), precision_of(recipe)) == (point.format, point.precision)
            and bool(sparsity_of(recipe)) == bool(point.sparsity)
        ]
        base = next((recipe for recipe in alike if is_rehearsed(recipe) == point.rehearsed), alike[0])
        return tuple(_with(step, point) for step in base)


def _with(step: Step, point: Point) -> Step:
    match step:
        case Prune():
            return structs.replace(step, sparsity=point.sparsity, importance=point.importance, scope=point.scope)
        case Recover():
            return structs.replace(step, epochs=point.epochs)
        case Rehearse() | Convert() | Quantize():
            return step
        case _:
            assert_never(step)


def space_of(plan: Plan) -> Space:
    """Everything that this plan's profile, model and data allow."""
    points = [point_of(recipe) for recipe in plan.recipes]
    axes = [
        Axis("format", tuple(dict.fromkeys(point.format for point in points))),
        Axis("precision", tuple(dict.fromkeys(point.precision for point in points))),
        Axis("rehearsed", tuple(dict.fromkeys(point.rehearsed for point in points))),
        *_pruning(points),
    ]
    return Space(plan, tuple(axis for axis in axes if len(axis.values) > 1))


def _pruning(points: Sequence[Point]) -> Iterator[Axis]:
    """How much, by what measure, and how long it is recovered from; the project's own values among them."""
    pruned = [point for point in points if point.sparsity]
    if not pruned:
        return
    most, own = max(point.sparsity for point in pruned), pruned[0]
    steps = {round(most * step / SPARSITY_STEPS, 4) for step in range(SPARSITY_STEPS)}
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
            case _:
                pass
    return point


def key_of(recipe: Recipe) -> Digest:
    """Two points with the same key are the same work."""
    return digest.of_value(recipe)


def describe(recipe: Recipe) -> str:
    """For people, short: `w8a8-s25 onnx (taylor, global, 40 epochs)`."""
    point = point_of(recipe)
    pruned = f"-s{round(point.sparsity * 100):02d}" if point.sparsity else ""
    rehearsed = "-qat" if point.rehearsed else ""
    how = f" ({point.importance}, {point.scope}, {point.epochs} epochs)" if point.sparsity else ""
    return f"{point.precision}{pruned}{rehearsed} {point.format}{how}"
