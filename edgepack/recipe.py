"""A recipe: an ordered tuple of typed steps from the source to one variant. Its digest keys the cache."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from edgepack.names import FileFormat, Precision

RangeMethod = Literal["auto", "minmax", "mse", "percentile", "entropy"]
Correct = Literal["auto", "on", "off"]
Activations = Literal["int8", "uint8"]
Importance = Literal["magnitude", "taylor", "norm-scale"]
Scope = Literal["layer", "global"]
Optimizer = Literal["adamw", "adam", "sgd", "adagrad"]
Schedule = Literal["cosine", "linear", "step", "one-cycle", "constant"]
Initialization = Literal["he", "xavier"]
Part = Annotated[float, Meta(ge=0, lt=1)]
Whole = Annotated[float, Meta(ge=0, le=1)]
Amount = Annotated[float, Meta(ge=0)]
Rate = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=0)]
Several = Annotated[int, Meta(ge=1)]

STATIC: tuple[Precision, ...] = ("w8a8", "w8a16", "mixed")
"""Precisions that compute on integers from end to end: their ranges come from calibration samples."""

WEIGHTS: tuple[Precision, ...] = ("w8", "w4")
"""Precisions that store weights as integers and compute in float: calibration samples help them, but are not needed."""


class Choice(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the channels that go are chosen.

    importance: of a channel: the L2 `magnitude` of its weights, `taylor` (what the loss would change by without it, from
    gradients on the training data), or `norm-scale` (its batch norm's scale)
    scope: whether each `layer` loses the share, or the model as a whole (`global`), the least important layers most
    """

    importance: Importance = "magnitude"
    scope: Scope = "layer"


class Prune(Choice, frozen=True, kw_only=False, forbid_unknown_fields=False, tag="prune"):
    """Remove whole channels. sparsity: the share removed, 0..1, of each prunable layer or of all, rounded to `multiple`."""

    sparsity: float
    multiple: int = 8


class Method(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a module is trained, after pruning and for quantization alike.

    optimizer: adamw, adam, sgd (Nesterov momentum 0.9), adagrad
    schedule: of the learning rate: cosine, linear, step (a tenth after each third), one-cycle, constant; all but one-cycle
    warm up over 20 batches
    weight_decay: of the optimizer; dropout: share of the last layer's inputs that is dropped while training
    distil: weight of the source's answers against the labels, 0..1; features: weight of the likeness of its inner layers,
    added to that; feature_layers: which layers are compared, empty for four of them, evenly spread
    replaced: layers (names, `*` matches) whose weights are drawn anew before training; initialization: how they are drawn
    patience: epochs without a better loss on held-out samples before training stops, 0 never stops early
    holdout: share of the training samples held out where `patience` is set
    norm_batches: batches on which batch norms are estimated again after training, 0 leaves their running averages
    """

    optimizer: Optimizer = "adamw"
    schedule: Schedule = "cosine"
    weight_decay: Amount = 1e-4
    dropout: Part = 0.0
    distil: Whole = 0.5
    features: Amount = 0.0
    feature_layers: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    initialization: Initialization = "he"
    patience: Count = 0
    holdout: Part = 0.1
    norm_batches: Count = 0


class Recover(Method, frozen=True, kw_only=False, forbid_unknown_fields=False, tag="recover"):
    """Train after pruning, with distillation from the source.

    epochs: passes over the training data; learning_rate: the schedule's peak; seed: of every random choice
    """

    epochs: Several = 20
    learning_rate: Rate = 2e-3
    seed: Count = 0


class Rehearse(Method, frozen=True, kw_only=False, forbid_unknown_fields=False, tag="rehearse"):
    """Train with weights and activations rounded as `Quantize` will round them (quantization-aware training).

    precision: that is rehearsed; epochs, learning_rate, seed: as of `Recover`
    """

    precision: Precision = "w8a8"
    epochs: Several = 5
    learning_rate: Rate = 2e-4
    seed: Count = 0


class Convert(Struct, frozen=True, tag="convert", omit_defaults=True):
    """precision: what the source computes in already, which a conversion keeps"""

    format: FileFormat
    precision: Precision = "fp32"


class Quantize(Struct, frozen=True, tag="quantize", omit_defaults=True):
    """How a float file is quantized; all but `precision` is for w8a8, w8a16 and mixed, `correct` for w8 and w4 too.

    ranges: how a tensor's range is taken from its histogram; `auto` takes what answers best on held-out calibration samples
    correct: sequential bias correction: where it helps on those, always, or never
    cuts: how many layers `mixed` leaves in float; None searches for the fewest that keep `max_drop`
    max_drop: what `mixed` may lose, as a share of disagreeing answers
    activations: how onnxruntime's 8-bit activations are stored
    """

    precision: Precision
    ranges: RangeMethod = "auto"
    correct: Correct = "auto"
    cuts: int | None = None
    max_drop: float = 0.01
    activations: Activations = "int8"


Training = Recover | Rehearse
Step = Prune | Recover | Rehearse | Convert | Quantize
Recipe = tuple[Step, ...]


def activations_for(machine: str, isa: tuple[str, ...]) -> Activations:
    """How onnxruntime's activations are best stored for a device (a file for ARM boards and one for x86 need not be the same).

    int8 everywhere but on x86 with VNNI: ARM's kernels for signed activations and weights are the faster ones, on x86
    uint8's are (2.7 times on ResNet-20), but without VNNI those saturate and answer wrongly.
    """
    return "uint8" if machine == "x86_64" and any("vnni" in extension for extension in isa) else "int8"


def precision_of(recipe: Recipe) -> Precision:
    """Of the file that the last step writes."""
    last = recipe[-1]
    assert isinstance(last, Convert | Quantize), "a recipe ends in a file"
    return last.precision


def sparsity_of(recipe: Recipe) -> float:
    return next((step.sparsity for step in recipe if isinstance(step, Prune)), 0.0)


def is_rehearsed(recipe: Recipe) -> bool:
    return any(isinstance(step, Rehearse) for step in recipe)


def format_of(recipe: Recipe) -> FileFormat:
    return next(step.format for step in recipe if isinstance(step, Convert))


def float_parent(recipe: Recipe) -> Recipe | None:
    """What a variant must not be slower than: a quantized one's float file, a pruned one's unpruned file; None for a source's."""
    # Rehearsing changes weights, not what they cost.
    *before, last = (step for step in recipe if not isinstance(step, Rehearse))
    if isinstance(last, Quantize):
        return tuple(before)
    return (last,) if before else None


def before_conversion(recipe: Recipe) -> Recipe:
    """The steps that make the module, which several files share."""
    return tuple(step for step in recipe if isinstance(step, Prune | Recover | Rehearse))
