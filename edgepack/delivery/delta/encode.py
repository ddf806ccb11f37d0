"""A payload: spans coded against the old file, compressed, a quarter of a megabyte at a time. Its format: `device/delta.py`."""

from __future__ import annotations

import lzma
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, Protocol

import numpy as np

from edgepack import digest
from edgepack.delivery.delta.align import LITERAL, Span
from edgepack.device.delta import BLOCK, MAGIC
from edgepack.digest import Digest
from edgepack.samples import Array

Codec = Literal["z", "x"]
"""z: zlib, runs and Huffman only (on planes of numbers as small as searching for matches, ten times as fast); x: xz"""
_SAMPLE = 1 << 15
_DICTIONARY = 1 << 20


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


@dataclass(frozen=True)
class Recipe:
    """How a payload is made. base: digest of the old file, or empty; size: of the new one; estimate: bytes of the payload"""

    base: Digest | None
    size: int
    spans: tuple[Span, ...]
    estimate: int


def prepare(spans: Sequence[Span], size: int, new: BinaryIO, old: BinaryIO | None, base: Digest | None) -> Recipe:
    """A recipe that compares with the old file only where a sample of the span says that it helps."""
    kept: list[Span] = []
    estimate, at = 0.0, 0
    for span in spans:
        choice, share = _judge(span, at, new, old)
        kept.append(choice)
        estimate += share * span.length
        at += span.length
    merged = tuple(_merge(kept))
    compared = any(span.start != LITERAL for span in merged)
    return Recipe(base if compared else None, size, merged, round(estimate) + 24 * len(merged) + 64)


def encode(recipe: Recipe, codec: Codec, new: BinaryIO, old: BinaryIO | None) -> Iterator[bytes]:
    """The payload of a recipe, piece by piece. The same files give the same bytes."""
    packer: _Packer = _xz() if codec == "x" else _zlib(recipe.size)
    header = {"base": recipe.base or "", "size": recipe.size, "spans": [list(span) for span in recipe.spans]}
    yield MAGIC + codec.encode() + packer.compress(digest.canonical_json(header) + b"\n")
    at = 0
    for span in recipe.spans:
        for done in range(0, span.length, BLOCK):
            count = min(BLOCK, span.length - done)
            numbers = _coded(span, at + done, done, count, new, old)
            yield packer.compress(_planes(numbers))
        at += span.length
    yield packer.flush()


def _zlib(size: int) -> _Packer:
    # what is small is text more than numbers
    strategy = zlib.Z_DEFAULT_STRATEGY if size < BLOCK else zlib.Z_RLE
    return zlib.compressobj(9, zlib.DEFLATED, 15, 9, strategy)


def _xz() -> _Packer:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": _DICTIONARY, "pb": 0}]
    return lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_NONE, filters=filters)


def _judge(span: Span, at: int, new: BinaryIO, old: BinaryIO | None) -> tuple[Span, float]:
    """The span, literal if that is smaller, and the share of its length that its payload will have about."""
    count = min(_SAMPLE, span.length)
    middle = (span.length - count) // 2
    middle -= middle % span.width
    literal = span._replace(start=LITERAL)
    plain = _entropy(_coded(literal, at + middle, middle, count, new, old))
    if span.start == LITERAL:
        return literal, plain
    compared = _entropy(_coded(span, at + middle, middle, count, new, old))
    return (span, compared) if compared < plain else (literal, plain)


def _merge(spans: Sequence[Span]) -> Iterator[Span]:
    held: Span | None = None
    for span in spans:
        follows = held and (
            span.start == held.start == LITERAL
            if held.start == LITERAL
            else span.start == held.start + held.length and span.start != LITERAL
        )
        if held and follows and span.width == held.width:
            held = held._replace(length=held.length + span.length)
            continue
        if held:
            yield held
        held = span
    if held:
        yield held


def _coded(span: Span, at: int, done: int, count: int, new: BinaryIO, old: BinaryIO | None) -> Array:
    """`count` bytes of the new file at `at` as numbers: themselves, or zigzag-coded differences."""
    ours = _numbers(new, at, count, span.width)
    if span.start == LITERAL:
        return ours
    assert old is not None
    theirs = _numbers(old, span.start + done, count, span.width)
    difference = (ours - theirs).view(f"<i{span.width}")
    return ((difference << 1) ^ (difference >> (8 * span.width - 1))).view(f"<u{span.width}")


def _numbers(file: BinaryIO, at: int, count: int, width: int) -> Array:
    file.seek(at)
    return np.frombuffer(file.read(count), dtype=f"<u{width}")


def _planes(numbers: Array) -> bytes:
    return numbers.view(np.uint8).reshape(-1, numbers.itemsize).T.tobytes()


def _entropy(numbers: Array) -> float:
    """Bytes a byte that an order-0 coder needs for the planes of `numbers`."""
    if not numbers.size:
        return 0.0
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T
    bits = 0.0
    for plane in planes:
        counts = np.bincount(plane, minlength=256)
        shares = counts[counts > 0] / plane.size
        bits += float(-(shares * np.log2(shares)).sum())
    return min(1.0, bits / 8 / len(planes)) if math.isfinite(bits) else 1.0
