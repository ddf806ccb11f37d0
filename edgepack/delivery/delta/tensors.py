"""Where the numbers lie in a model file, read by offset with nothing but the two formats' wire rules.

Only a hint of how to compress: whatever a file says, a wrong answer costs bytes and never correctness.
ONNX: onnx.proto (github.com/onnx/onnx); TFLite: schema.fbs (github.com/google-ai-edge/LiteRT), flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

_MOST = 1 << 15
_LONGEST_NAME = 1 << 12
_ONNX_WIDTHS = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_TFLITE_WIDTHS = {0: 4, 1: 2, 2: 4, 4: 8, 7: 2, 10: 8, 12: 8, 15: 4, 16: 2}


class Tensor(NamedTuple):
    """A run of numbers in a file. start, length: bytes; width: bytes a number (1, 2, 4, 8)"""

    name: str
    start: int
    length: int
    width: int


class _Broken(Exception):
    pass


def locate(file: BinaryIO, size: int) -> tuple[Tensor, ...]:
    """The tensors of an ONNX or TFLite file of `size` bytes, by where they start; none for any other file, or a broken one."""
    try:
        head = _read(file, size, 0, min(8, size))
        found = _tflite(file, size) if head[4:8] == b"TFL3" else _onnx(file, size)
        return _disjoint(found, size)
    except (_Broken, struct.error):
        return ()


def _disjoint(found: Iterator[Tensor], size: int) -> tuple[Tensor, ...]:
    kept: list[Tensor] = []
    for tensor in sorted(found, key=lambda one: one.start):
        whole = tensor._replace(length=tensor.length - tensor.length % tensor.width)
        free = not kept or kept[-1].start + kept[-1].length <= tensor.start
        if free and whole.length >= 16 and whole.start + whole.length <= size and len(kept) < _MOST:
            kept.append(whole)
    return tuple(kept)


def _read(file: BinaryIO, size: int, at: int, count: int) -> bytes:
    if at < 0 or count < 0 or at + count > size:
        raise _Broken
    file.seek(at)
    data = file.read(count)
    if len(data) != count:
        raise _Broken
    return data


class _Field(NamedTuple):
    """A field of a protobuf message: its number, its value where it is one, else where its bytes are."""

    number: int
    value: int
    start: int
    end: int


def _fields(file: BinaryIO, size: int, at: int, end: int) -> Iterator[_Field]:
    while at < end:
        head = _read(file, size, at, min(20, end - at))
        key, used = _varint(head, 0)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, used = _varint(head, used)
            yield _Field(number, value, at, at + used)
            at += used
        elif kind == 2:
            length, used = _varint(head, used)
            start = at + used
            at = start + length
            if at > end:
                raise _Broken
            yield _Field(number, 0, start, at)
        elif kind in (1, 5):
            at += used + (8 if kind == 1 else 4)
        else:
            raise _Broken


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(10):
        if at + index >= len(data):
            raise _Broken
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise _Broken


def _onnx(file: BinaryIO, size: int) -> Iterator[Tensor]:
    for graph in _fields(file, size, 0, size):
        if graph.number != 7 or not graph.start < graph.end:
            continue
        for initializer in _fields(file, size, graph.start, graph.end):
            if initializer.number == 5:
                yield from _initializer(file, size, initializer)


def _initializer(file: BinaryIO, size: int, at: _Field) -> Iterator[Tensor]:
    name, width, data = "", 1, None
    for field in _fields(file, size, at.start, at.end):
        if field.number == 2:
            width = _ONNX_WIDTHS.get(field.value, 1)
        elif field.number == 8:
            name = _text(file, size, field.start, field.end - field.start)
        elif field.number in (4, 9):  # float_data, raw_data: both packed little-endian numbers
            data = field
    if data is not None:
        yield Tensor(name, data.start, data.end - data.start, width)


def _tflite(file: BinaryIO, size: int) -> Iterator[Tensor]:
    model = _uint(file, size, 0)
    names: dict[int, tuple[str, int]] = {}
    for graph in _tables(file, size, model, 2):
        for tensor in _tables(file, size, graph, 0):
            at = _slot(file, size, tensor, 2)
            text = _indirect(file, size, tensor, 3)
            kind = _slot(file, size, tensor, 1)
            width = _TFLITE_WIDTHS.get(_read(file, size, kind, 1)[0] if kind else 0, 1)
            if at and text:
                names[_uint(file, size, at)] = (_text(file, size, text + 4, _uint(file, size, text)), width)
    for index, buffer in enumerate(_tables(file, size, model, 4)):
        data = _indirect(file, size, buffer, 0)
        if data:
            name, width = names.get(index, ("", 1))
            yield Tensor(name, data + 4, _uint(file, size, data), width)


def _tables(file: BinaryIO, size: int, table: int, slot: int) -> Sequence[int]:
    """Where the tables of a vector of tables are."""
    vector = _indirect(file, size, table, slot)
    if not vector:
        return ()
    count = _uint(file, size, vector)
    if count > _MOST:
        raise _Broken
    offsets = struct.unpack(f"<{count}I", _read(file, size, vector + 4, 4 * count))
    return [vector + 4 + 4 * index + offset for index, offset in enumerate(offsets)]


def _slot(file: BinaryIO, size: int, table: int, slot: int) -> int:
    """Where a field of a table is, 0 where it is not set."""
    (back,) = struct.unpack("<i", _read(file, size, table, 4))
    (length,) = struct.unpack("<H", _read(file, size, table - back, 2))
    if length < 6 + 2 * slot:
        return 0
    (offset,) = struct.unpack("<H", _read(file, size, table - back + 4 + 2 * slot, 2))
    return table + offset if offset else 0


def _indirect(file: BinaryIO, size: int, table: int, slot: int) -> int:
    at = _slot(file, size, table, slot)
    return at + _uint(file, size, at) if at else 0


def _uint(file: BinaryIO, size: int, at: int) -> int:
    (value,) = struct.unpack("<I", _read(file, size, at, 4))
    return int(value)


def _text(file: BinaryIO, size: int, at: int, length: int) -> str:
    return _read(file, size, at, min(length, _LONGEST_NAME)).decode("utf-8", "replace")
