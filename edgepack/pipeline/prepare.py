"""Everything a build reads, read once: the model, its samples, its baseline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import assert_never

import numpy as np

from edgepack import digest, evaluate, sources
from edgepack.digest import Digest
from edgepack.documents import Origin
from edgepack.errors import InputError
from edgepack.model import Signature
from edgepack.ports import KerasNative, Loaded, OnnxNative, Progress, TfliteNative, TorchNative
from edgepack.profile import Resolved
from edgepack.project import Project
from edgepack.samples import Arrays, Samples, TrainingData, over

PARITY_SAMPLES = 32


@dataclass(frozen=True)
class Request:
    """What the user asked for. folder: what paths in `project` are relative to; origins: of the project's values."""

    project: Project
    folder: Path
    origins: tuple[Origin, ...]
    profiles: tuple[Resolved, ...]


@dataclass(frozen=True)
class Scored:
    """The evaluation set, the metric, and what the source itself reaches on it."""

    samples: Samples
    metric: evaluate.Metric
    baseline: float

    def drop(self, score: float) -> float:
        """How much worse than the baseline, in the metric's own unit; negative where a variant is better."""
        return self.baseline - score if self.metric.higher_is_better else score - self.baseline


@dataclass(frozen=True)
class Inputs:
    """probe: real samples for parity and golden files (seeded noise where no data was given); size: of the source, bytes"""

    loaded: Loaded
    calibration: Samples | None
    scored: Scored | None
    training: TrainingData | None
    probe: Samples
    size_bytes: int

    @property
    def trainable(self) -> bool:
        native = self.loaded.native
        return self.training is not None and isinstance(native, TorchNative) and native.trainable


def prepare(request: Request, progress: Progress) -> Inputs:
    """Load the model and the data, check them against each other, score the source.

    Raises InputError: files missing or broken, shapes or dtypes that do not fit, NaN in the data or in an output.
    """
    project, folder = request.project, request.folder
    loaded = sources.load(project, folder, progress)
    data, signature = project.data, loaded.model.signature
    note = progress.note

    def samples(reference: str, need_labels: bool) -> Samples | None:
        if not reference:
            return None
        return sources.load_samples(reference, folder, signature, data.preprocessing, need_labels, note)

    calibration, evaluation = samples(data.calibration, False), samples(data.evaluation, True)
    training = (
        sources.load_training(data.training, folder, signature, data.preprocessing, project.build.seed, note=note)
        if data.training
        else None
    )
    probe = (calibration or evaluation or _noise(signature, progress)).take(PARITY_SAMPLES)
    _check_finite(over(loaded.run, probe.take(4)), loaded)
    return Inputs(
        loaded=loaded,
        calibration=calibration,
        scored=_score_source(loaded, evaluation, request, progress) if evaluation else None,
        training=training,
        probe=probe,
        size_bytes=_size_of(loaded, folder / project.model.source),
    )


def scored_on(inputs: Inputs, samples: Samples) -> Inputs:
    """The same model and data with another evaluation set, on which the source is scored again."""
    scored, loaded = inputs.scored, inputs.loaded
    assert scored is not None and samples.labels is not None, "there was an evaluation set before, with labels"
    baseline = evaluate.score(over(loaded.run, samples), samples.labels, scored.metric)
    probe = inputs.probe if inputs.calibration else samples.take(PARITY_SAMPLES)
    return replace(inputs, scored=Scored(samples, scored.metric, baseline), probe=probe)


def _score_source(loaded: Loaded, evaluation: Samples, request: Request, progress: Progress) -> Scored:
    data = request.project.data
    if not data.metric:
        raise InputError(
            "evaluation data without a metric",
            expected=f"one of {', '.join(evaluate.NAMES)}, or file.py:callable",
            advice="--metric top1, or [data] metric",
        )
    metric = evaluate.metric(data.metric, request.folder)
    with progress.step(f"score the source on {len(evaluation)} samples"):
        outputs = over(loaded.run, evaluation)
    _check_finite(outputs, loaded)
    assert evaluation.labels is not None
    return Scored(evaluation, metric, evaluate.score(outputs, evaluation.labels, metric))


def _check_finite(outputs: Arrays, loaded: Loaded) -> None:
    for spec, output in zip(loaded.model.signature.outputs, outputs, strict=True):
        if np.issubdtype(output.dtype, np.floating) and not np.isfinite(output).all():
            raise InputError(
                f"{loaded.model.source}: output {spec.name!r} holds NaN or infinity on real samples",
                advice="check the weights and that the samples are scaled as the model was trained",
            )


def _noise(signature: Signature, progress: Progress) -> Samples:
    progress.warn(
        "no calibration or evaluation data: parity and golden samples use seeded noise; give --calibration for real ones"
    )
    rng = np.random.default_rng(0)
    arrays: list[np.ndarray] = []
    for spec in signature.inputs:
        shape = (PARITY_SAMPLES, *(size or 1 for size in spec.shape[1:]))
        if np.issubdtype(np.dtype(spec.dtype), np.floating):
            arrays.append(rng.standard_normal(shape).astype(spec.dtype))
        else:
            arrays.append(rng.integers(0, 2, shape).astype(spec.dtype))
    return Samples(tuple(arrays), None, digest.of_bytes(b"noise 0"))


def data_digest(inputs: Inputs) -> Digest:
    """Of all samples that decide a variant's file or its score."""
    return digest.of_value(
        (
            inputs.probe.digest,
            inputs.calibration.digest if inputs.calibration else None,
            (inputs.scored.samples.digest, inputs.scored.metric.name) if inputs.scored else None,
            inputs.training.digest if inputs.training else None,
        )
    )


def _size_of(loaded: Loaded, path: Path) -> int:
    """Bytes of the source: its file or folder, or for a callable the weights that it returned."""
    if path.is_file():
        return path.stat().st_size
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    match loaded.native:
        case TorchNative(module=module):
            return sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
        case KerasNative(model=model):
            return sum(weight.numpy().nbytes for weight in model.weights)
        case OnnxNative(path=file) | TfliteNative(path=file):
            return file.stat().st_size
        case _:
            assert_never(loaded.native)
