"""Golden samples: inputs and the outputs that the variant gave for them, as an `.npz` that numpy reads anywhere."""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator

import numpy as np

from edgepack.errors import InputError
from edgepack.samples import Array, Arrays

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MEMBERS = 256
_FIXED = 10
_HEADER = re.compile(
    rb"\{'descr': '(?P<descr>[<|][biufc][0-9]{1,2})', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(?:[0-9]{1,18}(?:, ?|,(?=\))|(?=\))))*)\), \} *\n"
)


def write_golden(inputs: Arrays, outputs: Arrays) -> bytes:
    """An uncompressed `.npz` with `input_0…` and `output_0…`; the same arrays give the same bytes on every machine."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in _named(inputs, outputs):
            info = zipfile.ZipInfo(f"{name}.npy", _EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, _encode(array))
    return buffer.getvalue()


def _named(inputs: Arrays, outputs: Arrays) -> Iterator[tuple[str, Array]]:
    yield from ((f"input_{i}", array) for i, array in enumerate(inputs))
    yield from ((f"output_{i}", array) for i, array in enumerate(outputs))


def _encode(array: Array) -> bytes:
    buffer = io.BytesIO()
    contiguous = array if array.ndim == 0 else np.ascontiguousarray(array)
    little = contiguous.astype(contiguous.dtype.newbyteorder("<"), copy=False)
    np.lib.format.write_array(buffer, little, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def read_golden(data: bytes) -> tuple[Arrays, Arrays]:
    """The inputs and outputs of `write_golden`. Raises InputError on anything else; never unpickles, never inflates."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if len(entries) > _MEMBERS or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
                raise ValueError("its members are compressed, or too many")
            arrays = {entry.filename: _decode(archive.read(entry)) for entry in entries}
        if len(arrays) != len(entries):
            raise ValueError("it has two arrays of one name")
        inputs, outputs = _ordered(arrays, "input"), _ordered(arrays, "output")
        if len(inputs) + len(outputs) != len(arrays) or not inputs or not outputs:
            raise ValueError(f"its arrays are {', '.join(sorted(arrays))}")
    except (zipfile.BadZipFile, ValueError, TypeError, NotImplementedError, RuntimeError, EOFError) as error:
        raise InputError(
            f"golden samples cannot be read: {error}", expected="an .npz with input_0… and output_0…"
        ) from None
    return inputs, outputs


def _ordered(arrays: dict[str, Array], kind: str) -> Arrays:
    count = sum(name.startswith(kind) for name in arrays)
    names = [f"{kind}_{i}.npy" for i in range(count)]
    if missing := [name for name in names if name not in arrays]:
        raise ValueError(f"it has no {missing[0]}")
    return tuple(arrays[name] for name in names)


def _decode(data: bytes) -> Array:
    """One `.npy` of version 1.0 (numpy.lib.format), whose header must agree with the bytes that follow.

    Read without numpy's own parser: that evaluates the header as Python, and sets memory aside before it looks further.
    """
    if not data.startswith(b"\x93NUMPY\x01\x00") or len(data) < _FIXED:
        raise ValueError("an array is not in .npy version 1.0")
    start = _FIXED + int.from_bytes(data[8:_FIXED], "little")
    header = _HEADER.fullmatch(data[_FIXED:start])
    if not header:
        raise ValueError("an array is not one of plain numbers in C order")
    dtype = np.dtype(header["descr"].decode())
    shape = tuple(int(size) for size in header["shape"].replace(b",", b" ").split())
    if len(data) - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("an array has not as many bytes as its shape says")
    return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape).copy()
