"""One recipe to one variant: prune, recover, convert, quantize, compare, score. Files in, new files out, cached by digest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import assert_never

import msgspec
from msgspec import Struct, structs

from edgepack import bundle, compress, convert, digest, evaluate, runtimes
from edgepack.digest import Digest
from edgepack.errors import InexpressibleError, InputError
from edgepack.names import Precision, VariantId
from edgepack.pipeline import cache
from edgepack.pipeline.prepare import Inputs, Scored, data_digest
from edgepack.pipeline.school import School
from edgepack.pipeline.tools import tools
from edgepack.plan import Plan
from edgepack.ports import Loaded, Progress, TorchNative
from edgepack.recipe import (
    Convert,
    Prune,
    Quantize,
    Recipe,
    Recover,
    Rehearse,
    before_conversion,
    format_of,
    precision_of,
    sparsity_of,
)
from edgepack.runtimes import ceiling
from edgepack.samples import Array, Arrays, Run, over
from edgepack.variant import Built, Failed, LayerReport, Parity

GOLDEN_SAMPLES = 4


class Measured(Struct, frozen=True):
    """What running a variant on this machine told. notes: e.g. operators that the quantizer left in float;
    layers: what static quantization did to each
    """

    parity: Parity
    score: float | None
    tolerance: tuple[float, ...]
    parameters: int | None
    macs: int | None
    notes: tuple[str, ...] = ()
    layers: tuple[LayerReport, ...] = ()


@dataclass(frozen=True)
class Made:
    """A variant's verdict-to-be with its files: `model` and `golden` (see bundle.write_golden)."""

    variant: Built
    model: Path
    golden: Path
    measured: Measured


def candidate(made: Made | Failed) -> Built | Failed:
    """As the selection sees it."""
    return made.variant if isinstance(made, Made) else made


def scored_again(made: Made, scored: Scored) -> Made:
    """A variant's score and drop on another evaluation set than it was made with; the file stays what it is."""
    outputs = over(runtimes.open_file(made.model, made.variant.format), scored.samples)
    score = evaluate.score(outputs, _labels(scored.samples.labels), scored.metric)
    return replace(made, variant=structs.replace(made.variant, score=score, drop=scored.drop(score)))


@dataclass
class Workshop:
    """Makes the variants of one plan. school: keeps pruned and trained modules, for all plans of one source"""

    plan: Plan
    inputs: Inputs
    progress: Progress
    school: School
    _passes: compress.Passes = field(default_factory=compress.Passes)
    _answers: tuple[Recipe, Arrays] | None = None

    def make(self, recipe: Recipe) -> Made | Failed:
        """Build, compare and score one variant.

        What cannot be made, answers wrongly, or is beyond the runtime of the profile's boards is `Failed` with its reason.
        """
        made = self._make(recipe)
        if not isinstance(made, Made):
            return made
        runtime = made.variant.runtime
        reason = ceiling.refusal(made.model, runtime, self.plan.profile.profile.runtimes[runtime])
        return _failed(made.variant.id, recipe, reason) if reason else made

    def _make(self, recipe: Recipe) -> Made | Failed:
        id = self.plan.id_of(recipe)
        try:
            folder = cache.entry(self._key("variant", recipe), lambda fresh: self._produce(recipe, fresh))
        except InputError as error:
            # The source and the data were checked before: what fails here is this recipe's own.
            return _failed(id, recipe, str(error).replace("\n", "; "))
        measured = msgspec.json.decode((folder / "measured.json").read_bytes(), type=Measured)
        model = folder / f"model.{format_of(recipe)}"
        scored = self.inputs.scored
        return Made(
            Built(
                id=id,
                runtime=self.plan.runtime_for(format_of(recipe)),
                format=format_of(recipe),
                precision=precision_of(recipe),
                sparsity=sparsity_of(recipe),
                recipe=recipe,
                digest=digest.of_file(model),
                size_bytes=model.stat().st_size,
                parity=measured.parity,
                score=measured.score,
                drop=scored.drop(measured.score) if scored and measured.score is not None else None,
                parameters=measured.parameters,
                macs=measured.macs,
            ),
            model,
            folder / "golden.npz",
            measured,
        )

    def _key(self, stage: str, recipe: Recipe) -> Digest:
        return digest.of_value(
            (stage, self.inputs.loaded.model, recipe, data_digest(self.inputs), tools(), cache.code_digest())
        )

    def _produce(self, recipe: Recipe, folder: Path) -> None:
        format, precision = format_of(recipe), precision_of(recipe)
        file = folder / f"model.{format}"
        title = f"{self.plan.id_of(recipe)}"
        steps = before_conversion(recipe)
        self.school.loaded(steps)  # trained before the clock of this step starts
        with self.progress.step(f"make {title}"):
            quantized = self._write(recipe, file)
        with self.progress.step(f"check {title}"):
            run = runtimes.open_file(file, format)
            measured, golden = self._measure(steps, run, precision)
        if quantized is not None:
            measured = msgspec.structs.replace(measured, notes=quantized.notes(), layers=quantized.layers)
        (folder / "golden.npz").write_bytes(golden)
        (folder / "measured.json").write_bytes(digest.canonical_json(measured))

    def _write(self, recipe: Recipe, file: Path) -> compress.Quantized | None:
        *before, last = recipe
        match last:
            case Convert(format=format):
                convert.convert(
                    self.school.loaded(before_conversion(recipe)), format, file, self.inputs.probe, self.progress
                )
                return None
            case Quantize():
                return compress.quantize(
                    self._float_file(tuple(before)),
                    format_of(recipe),
                    last,
                    self.inputs.calibration,
                    file,
                    self.progress,
                    passes=self._passes,
                )
            case Prune() | Recover() | Rehearse():
                raise AssertionError("a recipe ends in a file")
            case _:
                assert_never(last)

    def _float_file(self, recipe: Recipe) -> Path:
        """The float parent of a quantized variant: itself a variant, made and checked first."""
        made = self._make(recipe)  # a parent need not run on the board
        match made:
            case Made(model=model):
                return model
            case Failed(reason=reason):
                raise InexpressibleError(f"its float parent could not be made: {reason}")
            case _:
                assert_never(made)

    def _measure(self, steps: Recipe, run: Run, precision: Precision) -> tuple[Measured, bytes]:
        parent = self.school.loaded(steps)
        expected, actual = self._expected(steps, parent), over(run, self.inputs.probe)
        parity = evaluate.parity(expected, actual)
        if precision == "fp32":
            evaluate.check_float(parity, expected, actual)
        scored = self.inputs.scored
        score = (
            evaluate.score(over(run, scored.samples), _labels(scored.samples.labels), scored.metric) if scored else None
        )
        golden = self.inputs.probe.take(GOLDEN_SAMPLES)
        outputs = over(run, golden)
        parameters, macs = self._count(parent)
        tolerance = tolerances(expected, parity, precision)
        return Measured(parity, score, tolerance, parameters, macs), bundle.write_golden(golden.inputs, outputs)

    def _expected(self, steps: Recipe, parent: Loaded) -> Arrays:
        """What the source after `steps` answers on the probe, kept until other steps are asked for: most variants share them."""
        if self._answers is None or self._answers[0] != steps:
            self._answers = steps, over(parent.run, self.inputs.probe)
        return self._answers[1]

    def _count(self, parent: Loaded) -> tuple[int | None, int | None]:
        if not isinstance(parent.native, TorchNative) or not parent.native.trainable:
            return None, None
        return compress.count(parent.native.module, next(self.inputs.probe.batches()))


def tolerances(expected: Arrays, parity: Parity, precision: Precision) -> tuple[float, ...]:
    """How far a board's answer may be from this machine's, per output, absolute.

    A float variant must match to 1e-3 of the output's range. Integer kernels differ between cores by a few steps
    (microsoft/onnxruntime#20479): a quantized one may move by 2 % of the range, or as far as quantization itself moved it.
    """
    share = 1e-3 if precision == "fp32" else 0.02
    spans = [float(output.max() - output.min()) if output.size else 0.0 for output in expected]
    floor = 0.0 if precision == "fp32" else parity.max_abs
    return tuple(max(share * span, floor, 1e-6) for span in spans)


def _labels(labels: Array | None) -> Array:
    assert labels is not None, "evaluation data is loaded with labels"
    return labels


def _failed(id: VariantId, recipe: Recipe, reason: str) -> Failed:
    return Failed(
        id=id, format=format_of(recipe), precision=precision_of(recipe), sparsity=sparsity_of(recipe), reason=reason
    )
