"""What would be built: a model, a profile and a project resolved into recipes, each value with its origin. Pure."""

from __future__ import annotations

from itertools import product

from msgspec import Struct, structs

from edgepack import digest
from edgepack.digest import Digest
from edgepack.documents import Origin
from edgepack.model import Format, Model
from edgepack.names import FileFormat, Precision, VariantId, variant_id
from edgepack.profile import Profile, Resolved, RuntimeName, opens
from edgepack.project import Project
from edgepack.recipe import (
    STATIC,
    Convert,
    Prune,
    Quantize,
    Recipe,
    Recover,
    Rehearse,
    activations_for,
    format_of,
    is_rehearsed,
    precision_of,
    sparsity_of,
)

REHEARSED: tuple[Precision, ...] = ("w8a8", "w8a16", "w4")
"""Precisions that training can prepare a module for; the others lose too little to be worth it."""

_UNSTRUCTURED = (
    "{} zeros make no runtime faster: measured, LiteRT and onnxruntime take as long as for a dense model with 50 to 90 % of "
    'the weights zero; [prune] pattern = "channels" does'
)


class Skipped(Struct, frozen=True):
    """Something the profile asks for that this model or this data cannot give, and why."""

    what: str
    reason: str


class Plan(Struct, frozen=True, kw_only=True):
    """name, version: of the bundle; recipes: one a variant, parents before children; values: for people to read"""

    name: str
    version: str
    model: Model
    profile: Resolved
    recipes: tuple[Recipe, ...]
    skipped: tuple[Skipped, ...]
    values: tuple[Origin, ...]

    def digest(self) -> Digest:
        """Of everything that decides the result: the model, the profile's values, the recipes; not where values came from."""
        return digest.of_value((self.name, self.version, self.model.digest, self.profile.profile, self.recipes))

    def id_of(self, recipe: Recipe) -> VariantId:
        return variant_id(
            self.name,
            self.profile.name,
            precision_of(recipe),
            sparsity_of(recipe),
            format_of(recipe),
            qat=is_rehearsed(recipe),
        )

    def runtime_for(self, format: FileFormat) -> RuntimeName:
        """The profile's preferred runtime that opens `format`."""
        return next(runtime for runtime in self.profile.profile.runtimes if opens(runtime) == format)


def plan(model: Model, resolved: Resolved, project: Project, origins: tuple[Origin, ...], *, trainable: bool) -> Plan:
    """Resolve what would be built. trainable: the source is a torch module and training data was given."""
    wanted, skipped = _sparsities(resolved, model, project, trainable)
    precisions, unquantized = _precisions(resolved, model, project)
    rehearsed, unrehearsed = _rehearsed(model, project, precisions, trainable)
    profile = resolved.profile
    formats, multiple = profile.formats(), profile.compress.multiple
    recipes = tuple(
        _recipe(model, project, profile, multiple, *choice) for choice in product(wanted, formats, precisions)
    ) + tuple(
        _recipe(model, project, profile, multiple, *choice, rehearse=True)
        for choice in product(wanted, formats, rehearsed)
    )
    name = project.name
    values = (*origins, *(Origin(f"profile.{o.key}", o.value, o.origin) for o in resolved.origins))
    return Plan(
        name=name,
        version=project.version,
        model=model,
        profile=resolved,
        recipes=recipes,
        skipped=(*skipped, *unquantized, *unrehearsed),
        values=values,
    )


def _sparsities(
    resolved: Resolved, model: Model, project: Project, trainable: bool
) -> tuple[tuple[float, ...], tuple[Skipped, ...]]:
    every = resolved.profile.compress.sparsities
    pruned = [sparsity for sparsity in every if sparsity]
    dense = project.prune.pattern == "channels"
    if not pruned or (trainable and dense and project.data.evaluation):
        return every, ()
    reason = _UNSTRUCTURED.format(project.prune.pattern)
    if dense:
        reason = _unjudged("pruning") if trainable else _untrainable("pruning", model, project)
    skipped = tuple(Skipped(f"sparsity {sparsity:g}", reason) for sparsity in pruned)
    return tuple(sparsity for sparsity in every if not sparsity) or (0.0,), skipped


def _rehearsed(
    model: Model, project: Project, precisions: tuple[Precision, ...], trainable: bool
) -> tuple[tuple[Precision, ...], tuple[Skipped, ...]]:
    """The precisions that are built from a module trained for them too."""
    if not project.build.qat:
        return (), ()
    wanted = tuple(precision for precision in precisions if precision in REHEARSED)
    if not trainable:
        return (), (Skipped("qat", _untrainable("quantization-aware training", model, project)),)
    if not project.data.evaluation:
        return (), (Skipped("qat", _unjudged("quantization-aware training")),)
    if not wanted:
        return (), (Skipped("qat", f"it prepares for {', '.join(REHEARSED)}; none of them is built here"),)
    return wanted, ()


def _unjudged(what: str) -> str:
    """A module that was trained anew is compared with itself before and after conversion: that says nothing of the training."""
    return f"nothing would tell what {what} costs: it needs [data] evaluation, or --evaluation"


def _untrainable(what: str, model: Model, project: Project) -> str:
    """Why `what` cannot be done for a model that cannot be trained here."""
    if model.format is Format.KERAS:
        why = f"{what} works on PyTorch sources; this one is Keras"
        aware = what != "pruning"
        return f"{why} 3, for which TensorFlow's toolkit (tfmot, Keras 2 only) has no training" if aware else why
    if model.format is not Format.TORCH:
        return f"{what} works on PyTorch sources; this one is {model.format}"
    if not project.data.training:
        return f"{what} needs data to train with: [data] training, or --training"
    return "an exported program cannot be trained: give file.py:callable"


def _precisions(
    resolved: Resolved, model: Model, project: Project
) -> tuple[tuple[Precision, ...], tuple[Skipped, ...]]:
    every = resolved.profile.compress.precisions
    if model.precision != "fp32":
        reason = f"the source is quantized already ({model.precision}): it is packed as it is"
        return (model.precision,), tuple(
            Skipped(f"precision {each}", reason) for each in every if each != model.precision
        )
    if project.data.calibration:
        return every, ()
    static = [precision for precision in every if precision in STATIC]
    reason = "static quantization needs samples to find ranges with: [data] calibration, or --calibration"
    kept = tuple(precision for precision in every if precision not in static) or ("fp32",)
    return kept, tuple(Skipped(f"precision {precision}", reason) for precision in static)


def _recipe(
    model: Model,
    project: Project,
    profile: Profile,
    multiple: int,
    sparsity: float,
    format: FileFormat,
    precision: Precision,
    *,
    rehearse: bool = False,
) -> Recipe:
    build, method = project.build, structs.asdict(project.recover)
    pruned = (
        (
            Prune(sparsity=sparsity, multiple=multiple, importance=project.prune.importance, scope=project.prune.scope),
            Recover(epochs=build.epochs, learning_rate=build.learning_rate, seed=build.seed, **method),
        )
        if sparsity
        else ()
    )
    # Layers that were drawn anew have been trained by then, and a source that was not pruned keeps all of its own.
    kept = {**method, "replaced": ()}
    qat = project.qat
    rehearsed = (
        (Rehearse(precision, epochs=qat.epochs, learning_rate=qat.learning_rate, seed=build.seed, **kept),)
        if rehearse
        else ()
    )
    quantized = (_quantize(profile, format, precision),) if precision != model.precision else ()
    return (*pruned, *rehearsed, Convert(format=format, precision=model.precision), *quantized)


def _quantize(profile: Profile, format: FileFormat, precision: Precision) -> Quantize:
    """What of a profile decides how a precision is made."""
    step = Quantize(precision=precision)
    if format == "onnx" and precision in ("w8a8", "mixed"):
        stored = activations_for(profile.device.machine, profile.device.isa)
        step = structs.replace(step, activations=stored)
    if precision == "mixed" and profile.budget.max_drop is not None:
        step = structs.replace(step, max_drop=profile.budget.max_drop)
    return step
