"""Samples as users have them: an `.npz`, or `file.py:callable` that yields batches; checked before anything is built.

`.npz`: `x` holds the samples along the first axis, or one array per input under the input's name; `y` the labels; other
arrays are left alone. A callable returns arrays `(x, y)`, a mapping like the `.npz`, or anything that iterates over
batches `(x, y)`, `(x,)` or `x` (a generator, a torch DataLoader); several inputs are a tuple or a mapping in place of `x`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import InputError
from edgepack.model import Preprocessing, Signature
from edgepack.runtimes.callables import UserCallable, is_reference, load_callable
from edgepack.samples import Array, Arrays, Samples, TrainingData
from edgepack.sources import fitting
from edgepack.sources.fitting import Notes, ignore

_MOST_BYTES = 8 << 30
"""A generator that gives more than this is taken for one that never ends."""


@dataclass(frozen=True)
class Hint:
    """What a sample file says of one input: its name in the file, one sample's shape, and the dtype a model would want."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class _Batch:
    """What one reference or one yield holds: arrays of inputs by name (`x` where they have none), labels."""

    inputs: dict[str, Array]
    labels: Array | None


def load_samples(
    reference: str,
    folder: Path,
    signature: Signature,
    preprocessing: Preprocessing | None,
    need_labels: bool,
    note: Notes = ignore,
) -> Samples:
    """All samples of a reference, of the signature's shapes and dtypes.

    folder: what the reference is relative to; note: hears of casts. Raises InputError naming the file and the array: a
    wrong shape or dtype, NaN, an unknown name, no samples, labels that are missing or of another length.
    """
    parts = list(_read(reference, folder))
    if not parts:
        raise InputError(f"{reference} yields no batches", expected="at least one batch of samples")
    names = list(parts[0].inputs)
    for part in parts:
        if list(part.inputs) != names or (part.labels is None) != (parts[0].labels is None):
            raise InputError(f"{reference} yields batches of different structure", expected="the same arrays each time")
    inputs = {name: _join(reference, name, [part.inputs[name] for part in parts]) for name in names}
    labels = None if parts[0].labels is None else _join(reference, "y", [_of(part.labels) for part in parts])
    arrays = fitting.fit(reference, inputs, signature, preprocessing, note)
    labels = fitting.check_labels(reference, labels, len(arrays[0]), need_labels)
    return Samples(arrays, labels, fitting.arrays_digest((*arrays, *(() if labels is None else (labels,)))))


def load_training(
    reference: str,
    folder: Path,
    signature: Signature,
    preprocessing: Preprocessing | None,
    seed: int = 0,
    batch_size: int = 64,
    note: Notes = ignore,
) -> TrainingData:
    """Batches to train on.

    An `.npz` gives batches of `batch_size`, in an order drawn for every epoch from `seed`; a callable is called
    again for every epoch and its batches are taken as they come, each checked. Reads one epoch to take its digest.
    Raises InputError as `load_samples`.
    """
    if is_reference(reference):
        return _streamed(reference, load_callable(reference, folder), signature, preprocessing, note)
    samples = load_samples(reference, folder, signature, preprocessing, need_labels=False, note=note)

    def batches(epoch: int) -> Iterator[tuple[Arrays, Array | None]]:
        order = np.random.default_rng([seed, epoch]).permutation(len(samples))
        for start in range(0, len(order), batch_size):
            index = order[start : start + batch_size]
            yield (
                tuple(array[index] for array in samples.inputs),
                None if samples.labels is None else samples.labels[index],
            )

    return TrainingData(batches, samples.digest)


def peek(reference: str, folder: Path, preprocessing: Preprocessing | None) -> tuple[Hint, ...]:
    """The inputs that the first batch of a reference suggests, after its preprocessing."""
    first = next(_read(reference, folder), None)
    if first is None:
        raise InputError(f"{reference} yields no batches", expected="at least one batch of samples")
    hints = []
    for name, array in first.inputs.items():
        if array.ndim < 1:
            raise InputError(f"{reference}: array {name!r} has no sample axis: its shape is {list(array.shape)}")
        shape, dtype = array.shape, fitting.natural_dtype(array.dtype)
        if preprocessing is not None:
            shape, dtype = fitting.preprocess(array[:1], preprocessing).shape, "float32"
        hints.append(Hint(name, tuple(shape[1:]), dtype))
    return tuple(hints)


def _streamed(
    reference: str, user: UserCallable, signature: Signature, preprocessing: Preprocessing | None, note: Notes
) -> TrainingData:
    def batches(epoch: int) -> Iterator[tuple[Arrays, Array | None]]:
        for batch in _of_callable(reference, user):
            arrays = fitting.fit(reference, batch.inputs, signature, preprocessing, note)
            yield arrays, fitting.check_labels(reference, batch.labels, len(arrays[0]), need=False)

    return TrainingData(batches, fitting.unordered_digest(reference, batches(0)))


def _read(reference: str, folder: Path) -> Iterator[_Batch]:
    if is_reference(reference):
        yield from _of_callable(reference, load_callable(reference, folder))
    else:
        yield _of_mapping(reference, _read_npz(reference, folder))


def _read_npz(reference: str, folder: Path) -> dict[str, Array]:
    path = folder / reference
    if not path.is_file():
        raise InputError(
            f"{reference}: no such file ({path.absolute()})",
            expected="an .npz with x (and y), or file.py:callable",
            advice="check the path",
        )
    if not zipfile.is_zipfile(path):
        raise InputError(
            f"{reference} is not an .npz file", expected="what numpy.savez(path, x=samples, y=labels) writes"
        )
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(
            f"{reference} cannot be read: {error}",
            expected="arrays of numbers (never Python objects)",
            advice="write it again with numpy.savez",
        ) from error


def _of_callable(reference: str, user: UserCallable) -> Iterator[_Batch]:
    made = user.call()
    if isinstance(made, Mapping):
        yield _of_mapping(reference, {str(name): _array(reference, value) for name, value in made.items()})
    elif _is_array(made) or _is_pair_of_arrays(made):
        yield _of_item(reference, made)
    elif isinstance(made, Iterable):
        yield from _of_iterator(reference, user, iter(made))
    else:
        raise InputError(
            f"{reference} returned {type(made).__name__}", expected="batches of (x, y), or the arrays (x, y)"
        )


def _of_iterator(reference: str, user: UserCallable, items: Iterator[Any]) -> Iterator[_Batch]:
    size = 0
    while True:
        with user.running():
            item = next(items, None)
        if item is None:
            return
        batch = _of_item(reference, item)
        size += sum(array.nbytes for array in batch.inputs.values())
        if size > _MOST_BYTES:
            raise InputError(
                f"{reference} has yielded more than {_MOST_BYTES >> 30} GiB",
                expected="batches that end",
                advice="stop after one pass over the data",
            )
        yield batch


def _of_item(reference: str, item: Any) -> _Batch:
    """One batch: `x`, `(x,)`, `(x, y)`, or a mapping of input names (with or without `y`)."""
    if isinstance(item, Mapping):
        return _of_mapping(reference, {str(name): _array(reference, value) for name, value in item.items()})
    if _is_array(item):
        return _Batch({"x": _array(reference, item)}, None)
    if not isinstance(item, tuple | list) or not 1 <= len(item) <= 2:
        raise InputError(
            f"{reference} yields {_describe(item)}",
            expected="(x, y), (x,) or x, where several inputs are a tuple in place of x",
        )
    x = item[0]
    labels = _array(reference, item[1]) if len(item) == 2 and item[1] is not None else None
    if isinstance(x, Mapping):
        return _Batch({str(name): _array(reference, value) for name, value in x.items()}, labels)
    if isinstance(x, tuple | list) and x and all(_is_array(value) for value in x):
        return _Batch({f"x[{i}]": _array(reference, value) for i, value in enumerate(x)}, labels)
    return _Batch({"x": _array(reference, x)}, labels)


def _of_mapping(reference: str, arrays: dict[str, Array]) -> _Batch:
    if not arrays:
        raise InputError(f"{reference} holds no arrays", expected="x (and y), or one array per input name")
    return _Batch({name: array for name, array in arrays.items() if name != "y"}, arrays.get("y"))


def _join(reference: str, name: str, parts: list[Array]) -> Array:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1 or any(part.ndim == 0 for part in parts):
        raise InputError(
            f"{reference}: the batches of {name!r} have different shapes: {', '.join(str(list(s)) for s in sorted(shapes))}",
            expected="the same shape but for the first axis",
            advice="yield batches (sample axis first), all padded or cropped alike",
        )
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _array(reference: str, value: Any) -> Array:
    """A numpy array of a numpy array, a tensor of either framework, or nested numbers. Never of objects."""
    for step in ("detach", "cpu", "numpy"):
        if hasattr(value, step) and not isinstance(value, np.ndarray):
            value = getattr(value, step)()
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{reference} yields {_describe(value)} where an array is wanted", expected="arrays or tensors of numbers"
        )
    return array


def _of(labels: Array | None) -> Array:
    assert labels is not None  # load_samples has compared all batches with the first
    return labels


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_pair_of_arrays(value: Any) -> bool:
    return isinstance(value, tuple) and 1 <= len(value) <= 2 and all(map(_is_array, value))


def _describe(item: Any) -> str:
    if isinstance(item, tuple | list):
        return f"{type(item).__name__} of {len(item)}"
    return type(item).__name__
