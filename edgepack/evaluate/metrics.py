"""Metrics: how well outputs agree with labels. Small numpy forms of what scikit-learn computes, which the tests compare with.

Built-in metrics look at the first output. Classes lie on the axis that the labels' shape leaves over: `[n, classes]` with
labels `[n]`, `[n, h, w, classes]` or `[n, classes, h, w]` with labels `[n, h, w]`. One-hot labels are understood.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack.errors import InputError
from edgepack.runtimes.callables import is_reference, load_callable
from edgepack.samples import Array, Arrays

_MOST_PSNR = 100.0


@dataclass(frozen=True)
class Metric:
    """name: as the user wrote it (with the digest of its code for a callable); compute: (outputs, labels) -> float"""

    name: str
    higher_is_better: bool
    compute: Callable[[Arrays, Array], float]


def metric(name_or_reference: str, folder: Path) -> Metric:
    """A built-in metric, or `file.py:callable(outputs, y) -> float`, where higher is better.

    The callable is given the one output as an array, several as a tuple of arrays. Raises InputError for an unknown name.
    """
    if is_reference(name_or_reference):
        return _custom(name_or_reference, folder)
    found = _METRICS.get(name_or_reference)
    if found is None:
        near = difflib.get_close_matches(name_or_reference, NAMES, n=1)
        raise InputError(
            f"metric {name_or_reference!r} is not known",
            expected=f"one of {', '.join(NAMES)}, or file.py:callable(outputs, y) -> float",
            advice=f"perhaps you meant {near[0]!r}?" if near else "choose one of them",
        )
    return found


def score(outputs: Arrays, labels: Array, metric: Metric) -> float:
    """The metric over all samples, a finite number.

    Raises InputError when outputs and labels do not fit each other or the metric, or the outputs are not finite.
    """
    for index, output in enumerate(outputs):
        if output.dtype.kind == "f" and not np.isfinite(output).all():
            raise InputError(f"{metric.name}: output {index} holds NaN or infinity on the evaluation samples")
    if len(outputs[0]) != len(labels):
        raise InputError(f"{metric.name}: {len(outputs[0])} outputs against {len(labels)} labels")
    value = metric.compute(outputs, labels)
    if not np.isfinite(value):
        raise InputError(f"metric {metric.name} is {value} on the evaluation samples", expected="a finite number")
    return float(value)


def _custom(reference: str, folder: Path) -> Metric:
    user = load_callable(reference, folder)

    def compute(outputs: Arrays, labels: Array) -> float:
        value = user.call(outputs[0] if len(outputs) == 1 else outputs, labels)
        if np.ndim(value) != 0 or isinstance(value, str | bytes) or value is None:
            raise InputError(f"{reference} returned {type(value).__name__}", expected="one number")
        return float(value)

    return Metric(f"{reference} {user.code_digest()[:15]}", True, compute)


def _top(k: int) -> Callable[[Arrays, Array], float]:
    def compute(outputs: Arrays, labels: Array) -> float:
        scores, wanted = _classes(outputs[0], labels, f"top{k}")
        if scores.shape[-1] < k:
            raise InputError(f"top{k} of {scores.shape[-1]} classes", advice="use top1")
        own = np.take_along_axis(scores, wanted[..., None], axis=-1)
        # Ties go to the lower index, as argmax and a stable sort have them.
        before = np.arange(scores.shape[-1]) < wanted[..., None]
        rank = (scores > own).sum(axis=-1) + ((scores == own) & before).sum(axis=-1)
        return float((rank < k).mean())

    return compute


def _auc(outputs: Arrays, labels: Array) -> float:
    """Area under the ROC curve (Mann-Whitney U); of several classes the mean of each against the rest."""
    values = _column(outputs[0])
    truth = _indices(labels, values.shape[-1] if values.ndim == 2 else 2)
    if values.ndim == 1:
        return _binary_auc(values, truth > 0, "1")
    each = [_binary_auc(values[:, c], truth == c, str(c)) for c in range(values.shape[-1])]
    return float(np.mean(each[1:] if len(each) == 2 else each))


def _binary_auc(values: Array, positive: Array, name: str) -> float:
    count, others = int(positive.sum()), int((~positive).sum())
    if not count or not others:
        raise InputError(f"auc: the labels hold {'no' if not count else 'only'} samples of class {name}")
    _, inverse, sizes = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[inverse]
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * others))


def _f1(outputs: Arrays, labels: Array) -> float:
    """F1 of class 1 for one probability a sample (0.5 and above is positive), else the mean over the classes that occur."""
    values = _column(outputs[0])
    if values.ndim == 1:
        if values.dtype.kind == "f" and (values.min() < -0.01 or values.max() > 1.01):
            raise InputError(
                f"f1: outputs from {values.min():.3g} to {values.max():.3g} are not probabilities",
                expected="values from 0 to 1, or one score a class",
                advice="end the model in a sigmoid, or use file.py:callable(outputs, y)",
            )
        return _one_f1(values >= 0.5, _indices(labels, 2) > 0)
    predicted, truth = values.argmax(axis=-1), _indices(labels, values.shape[-1])
    return float(np.mean([_one_f1(predicted == c, truth == c) for c in np.union1d(predicted, truth)]))


def _one_f1(predicted: Array, truth: Array) -> float:
    hits = 2.0 * float((predicted & truth).sum())
    total = float(predicted.sum()) + float(truth.sum())
    return hits / total if total else 0.0


def _mae(outputs: Arrays, labels: Array) -> float:
    values, truth = _alike(outputs[0], labels, "mae")
    return float(np.abs(values - truth).mean())


def _mse(outputs: Arrays, labels: Array) -> float:
    values, truth = _alike(outputs[0], labels, "mse")
    return float(np.square(values - truth).mean())


def _psnr(outputs: Arrays, labels: Array) -> float:
    """Mean over the samples of 10 log10(peak² / mse), at most 100 dB.

    peak: 255 for uint8 labels, 1 for labels within 0..1, else the labels' range
    """
    values, truth = _alike(outputs[0], labels, "psnr")
    inside = truth.min() >= 0 and truth.max() <= 1
    peak = 255.0 if labels.dtype == np.uint8 else 1.0 if inside else float(np.ptp(truth))
    errors = np.square(values - truth).reshape(len(truth), -1).mean(axis=-1)
    with np.errstate(divide="ignore"):
        return float(np.minimum(10 * np.log10(peak**2 / errors), _MOST_PSNR).mean())


def _cosine(outputs: Arrays, labels: Array) -> float:
    """Mean over the samples of the cosine between output and label."""
    values, truth = (array.reshape(len(labels), -1) for array in _alike(outputs[0], labels, "cosine"))
    lengths = np.linalg.norm(values, axis=-1) * np.linalg.norm(truth, axis=-1)
    return float(((values * truth).sum(axis=-1) / np.maximum(lengths, 1e-12)).mean())


def _classes(output: Array, labels: Array, name: str) -> tuple[Array, Array]:
    """Scores with the classes last, and class indices of the same shape without that axis."""
    if output.dtype.kind in "iu" and output.size == labels.size:  # the model itself ends in an argmax
        predicted, truth = output.reshape(labels.shape).astype(np.int64), labels.astype(np.int64)
        count = int(max(predicted.max(), truth.max())) + 1
        return np.eye(count)[predicted], truth
    output = _squeezed(output)
    if labels.shape == output.shape and labels.ndim > 1:
        labels = labels.argmax(axis=-1)
    if labels.ndim == output.ndim and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if labels.shape == (len(output), *output.shape[2:]) and labels.shape != output.shape[:-1]:
        output = np.moveaxis(output, 1, -1)
    if labels.shape != output.shape[:-1]:
        raise InputError(
            f"{name}: outputs of shape {list(output.shape)} against labels of shape {list(labels.shape)}",
            expected="one score a class, and one class index a sample",
            advice="choose another metric, or file.py:callable(outputs, y)",
        )
    return output, _in_range(labels, output.shape[-1], name)


def _squeezed(output: Array) -> Array:
    """`[n, 1, 1, classes]` as `[n, classes]`: what pooling without flattening leaves."""
    return output.reshape(len(output), -1) if output.size == len(output) * output.shape[-1] else output


def _column(output: Array) -> Array:
    """`[n]` or `[n, classes]`."""
    flat = output.reshape(len(output), -1)
    return flat[:, 0] if flat.shape[1] == 1 else flat


def _indices(labels: Array, count: int) -> Array:
    flat = labels.reshape(len(labels), -1)
    if flat.shape[1] == count and count > 1:
        return np.asarray(flat.argmax(axis=-1))
    if flat.shape[1] != 1:
        raise InputError(f"labels of shape {list(labels.shape)} against {count} classes", expected="one index a sample")
    return _in_range(flat[:, 0], count, "metric")


def _in_range(labels: Array, count: int, name: str) -> Array:
    indices = labels.astype(np.int64)
    if (indices != labels).any() or indices.min() < 0 or indices.max() >= count:
        raise InputError(
            f"{name}: labels from {labels.min()} to {labels.max()} against {count} classes",
            expected=f"class indices from 0 to {count - 1}",
        )
    return indices


def _alike(output: Array, labels: Array, name: str) -> tuple[Array, Array]:
    if output.size != labels.size:
        raise InputError(
            f"{name}: outputs of shape {list(output.shape)} against labels of shape {list(labels.shape)}",
            expected="labels of the outputs' shape",
        )
    return output.astype(np.float64).reshape(labels.shape), labels.astype(np.float64)


_METRICS = {
    found.name: found
    for found in (
        Metric("top1", True, _top(1)),
        Metric("top5", True, _top(5)),
        Metric("auc", True, _auc),
        Metric("mae", False, _mae),
        Metric("mse", False, _mse),
        Metric("f1", True, _f1),
        Metric("psnr", True, _psnr),
        Metric("cosine", True, _cosine),
    )
}
NAMES = tuple(_METRICS)
