"""A recipe: an ordered tuple of typed steps from the source to one variant. Its digest keys the cache."""

from __future__ import annotations

from msgspec import Struct

from edgepack.names import FileFormat, Precision


class Prune(Struct, frozen=True, tag="prune"):
    """Remove whole channels. sparsity: share of channels removed in each prunable layer, 0..1, rounded to `multiple`."""

    sparsity: float
    multiple: int = 8


class Recover(Struct, frozen=True, tag="recover"):
    """Train after pruning, with distillation from the source.

    epochs: passes over the training data; learning_rate: peak of a cosine schedule (AdamW); distil: weight of the
    teacher's soft targets against the labels, 0..1; seed: of every random choice
    """

    epochs: int = 20
    learning_rate: float = 2e-3
    distil: float = 0.5
    seed: int = 0


class Convert(Struct, frozen=True, tag="convert", omit_defaults=True):
    """precision: what the source computes in already, which a conversion keeps"""

    format: FileFormat
    precision: Precision = "fp32"


class Quantize(Struct, frozen=True, tag="quantize"):
    precision: Precision


Step = Prune | Recover | Convert | Quantize
Recipe = tuple[Step, ...]


def precision_of(recipe: Recipe) -> Precision:
    """Of the file that the last step writes."""
    last = recipe[-1]
    assert isinstance(last, Convert | Quantize), "a recipe ends in a file"
    return last.precision


def sparsity_of(recipe: Recipe) -> float:
    return next((step.sparsity for step in recipe if isinstance(step, Prune)), 0.0)


def format_of(recipe: Recipe) -> FileFormat:
    return next(step.format for step in recipe if isinstance(step, Convert))


def float_parent(recipe: Recipe) -> Recipe | None:
    """What a variant must not be slower than: a quantized one's float file, a pruned one's unpruned file; None for a source's."""
    *before, last = recipe
    if isinstance(last, Quantize):
        return tuple(before)
    return (last,) if before else None
