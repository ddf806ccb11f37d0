"""What would be built: a model, a profile and a project resolved into recipes, each value with its origin. Pure."""

from __future__ import annotations

from itertools import product

from msgspec import Struct

from edgepack import digest
from edgepack.digest import Digest
from edgepack.documents import Origin
from edgepack.model import Format, Model
from edgepack.names import FileFormat, Precision, VariantId, variant_id
from edgepack.profile import Resolved, RuntimeName, opens
from edgepack.project import Project
from edgepack.recipe import Convert, Prune, Quantize, Recipe, Recover, format_of, precision_of, sparsity_of


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
        return variant_id(self.name, self.profile.name, precision_of(recipe), sparsity_of(recipe), format_of(recipe))

    def runtime_for(self, format: FileFormat) -> RuntimeName:
        """The profile's preferred runtime that opens `format`."""
        return next(runtime for runtime in self.profile.profile.runtimes if opens(runtime) == format)


def plan(model: Model, resolved: Resolved, project: Project, origins: tuple[Origin, ...], *, trainable: bool) -> Plan:
    """Resolve what would be built. trainable: the source is a torch module and training data was given."""
    wanted, skipped = _sparsities(resolved, model, project, trainable)
    precisions, unquantized = _precisions(resolved, model, project)
    recipes = tuple(
        _recipe(model, project, sparsity, format, precision)
        for sparsity, format, precision in product(wanted, resolved.profile.formats(), precisions)
    )
    name = project.name
    values = (*origins, *(Origin(f"profile.{o.key}", o.value, o.origin) for o in resolved.origins))
    return Plan(
        name=name,
        version=project.version,
        model=model,
        profile=resolved,
        recipes=recipes,
        skipped=(*skipped, *unquantized),
        values=values,
    )


def _sparsities(
    resolved: Resolved, model: Model, project: Project, trainable: bool
) -> tuple[tuple[float, ...], tuple[Skipped, ...]]:
    every = resolved.profile.compress.sparsities
    pruned = [sparsity for sparsity in every if sparsity]
    if not pruned or trainable:
        return every, ()
    if model.format is not Format.TORCH:
        reason = f"pruning works on PyTorch sources; this one is {model.format}"
    elif not project.data.training:
        reason = "pruning needs data to recover with: [data] training, or --training"
    else:
        reason = "an exported program cannot be trained: give file.py:callable"
    skipped = tuple(Skipped(f"sparsity {sparsity:g}", reason) for sparsity in pruned)
    return tuple(sparsity for sparsity in every if not sparsity) or (0.0,), skipped


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
    static = [precision for precision in every if precision in ("w8a8", "w8a16")]
    reason = "static quantization needs samples to find ranges with: [data] calibration, or --calibration"
    kept = tuple(precision for precision in every if precision not in static) or ("fp32",)
    return kept, tuple(Skipped(f"precision {precision}", reason) for precision in static)


def _recipe(model: Model, project: Project, sparsity: float, format: FileFormat, precision: Precision) -> Recipe:
    build = project.build
    pruned = (
        (Prune(sparsity=sparsity), Recover(epochs=build.epochs, learning_rate=build.learning_rate, seed=build.seed))
        if sparsity
        else ()
    )
    quantized = (Quantize(precision=precision),) if precision != model.precision else ()
    return (*pruned, Convert(format=format, precision=model.precision), *quantized)
