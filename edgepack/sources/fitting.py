"""Whether arrays fit a signature: names, shapes, dtypes, values; and the preprocessing that was declared. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Preprocessing, Signature, TensorSpec
from edgepack.samples import Array, Arrays

Notes = Callable[[str], None]


def ignore(_: str) -> None:
    """Nobody wants to hear."""


def fit(
    reference: str,
    found: Mapping[str, Array],
    signature: Signature,
    preprocessing: Preprocessing | None,
    note: Notes = ignore,
) -> Arrays:
    """The arrays in the signature's order, preprocessed and cast. Raises InputError for whatever does not fit."""
    named = _by_input(reference, found, signature.inputs)
    arrays = tuple(
        _fit_one(reference, name, array, spec, preprocessing, note)
        for (name, array), spec in zip(named, signature.inputs, strict=True)
    )
    lengths = {name: len(array) for (name, _), array in zip(named, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError(f"{reference}: its arrays hold different numbers of samples: {shown}")
    if not len(arrays[0]):
        raise InputError(f"{reference}: array {named[0][0]!r} holds no samples", expected="at least one sample")
    return arrays


def check_labels(reference: str, labels: Array | None, count: int, need: bool) -> Array | None:
    """Labels as they are. Raises InputError when they are missing though needed, of another length, or not finite."""
    if labels is None:
        if need:
            raise InputError(
                f"{reference} holds no labels",
                expected="y, one label a sample: scores are computed from them",
                advice="write them with numpy.savez(path, x=samples, y=labels), or yield (x, y)",
            )
        return None
    if labels.dtype.kind not in "biuf":
        raise InputError(
            f"{reference}: array 'y' has the dtype {labels.dtype}",
            expected="numbers",
            advice="encode labels as indices",
        )
    if not labels.ndim or len(labels) != count:
        raise InputError(
            f"{reference}: array 'y' has the shape {list(labels.shape)}, there are {count} samples",
            expected=f"the shape [{count}, …]",
        )
    _check_finite(reference, "y", labels)
    return labels


def preprocess(array: Array, how: Preprocessing) -> Array:
    """`(x * scale - mean) / std` in float32, then the layout change. mean and std run along the raw sample's last axis."""
    mean, std = np.asarray(how.mean, np.float32), np.asarray(how.std, np.float32)
    for name, values in (("mean", mean), ("std", std)):
        if values.size not in (1, array.shape[-1]):
            raise InputError(
                f"preprocessing: {name} has {values.size} values, the samples' last axis has {array.shape[-1]}",
                expected="one value, or one a channel",
            )
    if not std.all():
        raise InputError("preprocessing: std holds a 0", expected="values other than 0")
    ready: Array = (array.astype(np.float32) * np.float32(how.scale) - mean) / std
    if how.layout:
        ready = ready.transpose(_axes(how.layout, array.ndim))
    return np.ascontiguousarray(ready)


def natural_dtype(dtype: np.dtype[np.generic]) -> str:
    """The dtype of the input that such samples are meant for: raw 8-bit samples and doubles go into float32 inputs."""
    return "float32" if dtype in (np.float64, np.uint8, np.bool_) else str(dtype)


def arrays_digest(arrays: Iterable[Array]) -> Digest:
    """Of the arrays' dtypes, shapes and bytes."""
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.dtype.str}{array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return Digest("sha256:" + hasher.hexdigest())


def unordered_digest(reference: str, batches: Iterable[tuple[Arrays, Array | None]]) -> Digest:
    """Of the samples of one epoch, whatever order and batches they come in: the sum of their own digests.

    Raises InputError when there are none.
    """
    total, count = 0, 0
    for arrays, labels in batches:
        for i in range(len(arrays[0])):
            sample = [array[i] for array in arrays] + ([] if labels is None else [labels[i]])
            total += int(arrays_digest(map(np.asarray, sample)).partition(":")[2], 16)
            count += 1
    if not count:
        raise InputError(f"{reference} yields no batches", expected="at least one batch of samples")
    return Digest("sha256:" + hashlib.sha256(f"{count} {total}".encode()).hexdigest())


def _by_input(reference: str, found: Mapping[str, Array], specs: tuple[TensorSpec, ...]) -> list[tuple[str, Array]]:
    names = [spec.name for spec in specs]
    if all(name in found for name in names):
        return [(name, found[name]) for name in names]
    if len(specs) == 1 and "x" in found:
        return [("x", found["x"])]
    if set(found) == {f"x[{i}]" for i in range(len(specs))}:
        return list(found.items())
    wanted = (
        "'x', or one under the input's name " + repr(names[0])
        if len(specs) == 1
        else f"one per input: {', '.join(names)}"
    )
    missing = [name for name in names if name not in found]
    raise InputError(
        f"{reference} holds the arrays {', '.join(sorted(found)) or '(none)'}; missing: {', '.join(missing)}",
        expected=f"an array {wanted}",
        advice="rename the arrays",
    )


def _fit_one(
    reference: str, name: str, array: Array, spec: TensorSpec, preprocessing: Preprocessing | None, note: Notes
) -> Array:
    if array.dtype.kind not in "biuf":
        raise InputError(f"{reference}: array {name!r} has the dtype {array.dtype}", expected=spec.dtype)
    _check_finite(reference, name, array)
    if preprocessing is not None and np.dtype(spec.dtype).kind == "f" and array.ndim == len(spec.shape):
        array = preprocess(array, preprocessing)
    if array.ndim != len(spec.shape) or array.shape[1:] != tuple(spec.shape[1:]):
        sizes = ", ".join(map(str, ("n", *spec.shape[1:])))
        raise InputError(
            f"{reference}: array {name!r} has the shape {list(array.shape)}",
            expected=f"the shape [{sizes}] of input {spec.name!r}, n being the number of samples",
            advice=_shape_advice(array.shape, spec),
        )
    return _cast(reference, name, array, spec, note)


def _shape_advice(shape: tuple[int, ...], spec: TensorSpec) -> str:
    wanted = tuple(spec.shape[1:])
    if shape == wanted:
        return "add the sample axis: x[None] for one sample; a callable yields batches"
    if len(shape) == len(wanted) + 1 and sorted(shape[1:]) == sorted(size or 0 for size in wanted):
        return "transpose the samples, or declare [data.preprocessing] layout (NHWC->NCHW)"
    return "give the samples as the model takes them"


def _cast(reference: str, name: str, array: Array, spec: TensorSpec, note: Notes) -> Array:
    """To the input's dtype, where every value survives: floats to floats, integers to floats or to integers that hold them."""
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    if array.dtype.kind == "f" and wanted.kind != "f":
        raise InputError(
            f"{reference}: array {name!r} has the dtype {array.dtype}",
            expected=f"{wanted}, the dtype of input {spec.name!r}",
            advice=f"save it as x.astype('{wanted}') if the values are meant so",
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(wanted)
    survives = np.isfinite(cast).all() if wanted.kind == "f" else bool((cast == array).all())
    if not survives:
        raise InputError(
            f"{reference}: array {name!r} holds values from {array.min()} to {array.max()} that {wanted} cannot hold",
            expected=f"values within {wanted}, the dtype of input {spec.name!r}",
        )
    if array.dtype.kind != "f":
        note(f"{reference}: array {name!r} is cast from {array.dtype} to {wanted}, its values unchanged (no scaling)")
    return np.ascontiguousarray(cast)


def _check_finite(reference: str, name: str, array: Array) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    bad = np.argwhere(~np.isfinite(array))[0]
    raise InputError(
        f"{reference}: array {name!r} holds {'NaN' if np.isnan(array).any() else 'infinity'}, first at {bad.tolist()}",
        expected="finite numbers",
        advice="clean the samples",
    )


def _axes(layout: str, ndim: int) -> list[int]:
    before, arrow, after = layout.partition("->")
    if not arrow or sorted(before) != sorted(after) or len(set(before)) != len(before) or len(before) != ndim:
        raise InputError(
            f"preprocessing: layout {layout!r} does not fit samples of {ndim} axes (the batch counted)",
            expected="for example NHWC->NCHW",
        )
    return [before.index(axis) for axis in after]
