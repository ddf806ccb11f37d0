"""A blob made of another one and of what is different: standard library only, a quarter of a megabyte at a time.

A payload is b"edgepack-delta-1 " and a codec (`z` zlib, `x` xz), then one compressed stream: a line of JSON and a body.

    {"base": DIGEST or "", "size": BYTES, "spans": [[START, LENGTH, WIDTH], …]}

The spans make the new blob, in order. Each takes LENGTH bytes of the body, in blocks of BLOCK bytes, where the bytes of
WIDTH-byte little-endian numbers lie plane by plane: all the lowest bytes first. A START of -1 means these numbers themselves;
else they are zigzag-coded differences (0, -1, 1, -2, …) to the numbers at START of the base.
"""

from __future__ import annotations

import json
import os
import zlib
from typing import Any, BinaryIO, Dict, List, NamedTuple, Tuple

from . import store
from .faults import Fault
from .requests import check

MAGIC = b"edgepack-delta-1 "
BLOCK = 1 << 18
_LONGEST_HEADER = 4 << 20
_MOST_SPANS = 1 << 16
_MEMORY = 24 << 20
"""Bytes that unpacking may take: a stream that wants a larger dictionary is refused."""
_CHUNK = 1 << 16


class Span(NamedTuple):
    start: int
    length: int
    width: int


class Header(NamedTuple):
    base: str
    spans: List[Span]


class Masks(NamedTuple):
    """Numbers as long as a block: the lowest bit of each lane, the highest, and all the others."""

    low: int
    high: int
    rest: int


def codecs() -> List[str]:
    """What this board's Python can unpack."""
    try:
        import lzma  # noqa: F401
    except ImportError:
        return ["z"]
    return ["x", "z"]


def apply(root: str, payload: str, goal: str, size: int) -> None:
    """Make the blob `goal` of `size` bytes out of the payload in the file `payload` and a blob that is here.

    Raises Fault where the payload is none, wants more memory or makes more bytes than was said, its base is not here, or what it
    makes is not `goal`. Nothing of it stays then.
    """
    blob = store.blob_path(root, goal)
    aside = os.path.join(root, "blobs", "partial", f".{store.hex_of(goal)}.{os.getpid()}")
    try:
        with open(payload, "rb") as file, open(aside, "wb") as out:
            _write(root, file, out, size)
            out.flush()
            os.fsync(out.fileno())
        found = store.hash_file(aside)
        if found != goal:
            raise _refused(f"made {found}", goal)
        os.chmod(aside, 0o444)
        os.replace(aside, blob)
        store.sync_folder(os.path.dirname(blob))
    except (zlib.error, ValueError, EOFError, RecursionError, _lzma_error()) as error:
        raise _refused(f"cannot be unpacked ({error})", goal) from None
    finally:
        if os.path.exists(aside):
            os.unlink(aside)


def _write(root: str, file: BinaryIO, out: BinaryIO, size: int) -> None:
    body = Body(file)
    header = _header(body.line(), size)
    if not header.base:
        _spans(body, header, None, out)
    else:
        path = store.blob_path(root, header.base)
        if not os.path.exists(path):
            raise _refused(f"needs {header.base}, which is not on the board", "its base to be there")
        with open(path, "rb") as base:
            _spans(body, header, base, out)
    body.end()


class Body:
    """What a payload unpacks to, never more of it at a time than asked for."""

    def __init__(self, file: BinaryIO) -> None:
        head = file.read(len(MAGIC) + 1)
        if head[:-1] != MAGIC:
            raise ValueError("it is no delta")
        self._file = file
        self._ahead = b""
        self._unpack = _unpacker(head[-1:])

    def line(self) -> bytes:
        """The first line, without its end."""
        line = b""
        while b"\n" not in line:
            if len(line) > _LONGEST_HEADER:
                raise ValueError("its header is too long")
            line += self._more(_CHUNK)
        line, _, self._ahead = line.partition(b"\n")
        return line

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes. Raises EOFError where there are fewer."""
        parts, left = [], size
        while left:
            data = self._ahead or self._more(left)
            parts.append(data[:left])
            self._ahead = data[left:]
            left -= len(parts[-1])
        return b"".join(parts)

    def end(self) -> None:
        """Raises ValueError where something is left."""
        try:
            left = self._ahead or self._more(1)
        except EOFError:
            return
        raise ValueError(f"{len(left)} bytes or more follow its end")

    def _more(self, limit: int) -> bytes:
        while True:
            data: bytes = self._unpack.step(self._file, limit)
            if data:
                return data


class _Zlib:
    def __init__(self) -> None:
        self._state = zlib.decompressobj()

    def step(self, file: BinaryIO, limit: int) -> bytes:
        if self._state.eof:
            raise _ended(bool(self._state.unused_data or file.read(1)))
        packed = self._state.unconsumed_tail or file.read(_CHUNK)
        data = self._state.decompress(packed, limit)
        if not packed and not data:
            raise ValueError("it is cut short")
        return data


class _Xz:
    def __init__(self) -> None:
        import lzma

        self._state = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)

    def step(self, file: BinaryIO, limit: int) -> bytes:
        if self._state.eof:
            raise _ended(bool(self._state.unused_data or file.read(1)))
        packed = file.read(_CHUNK) if self._state.needs_input else b""
        if self._state.needs_input and not packed:
            raise ValueError("it is cut short")
        data: bytes = self._state.decompress(packed, limit)
        return data


def _ended(trailing: bool) -> Exception:
    return ValueError("bytes follow its end") if trailing else EOFError("it makes fewer bytes than it says")


def _unpacker(codec: bytes) -> Any:
    if codec == b"z":
        return _Zlib()
    if codec == b"x":
        return _Xz()
    raise ValueError(f"its codec {codec!r} is not known")


def _lzma_error() -> Any:
    try:
        import lzma
    except ImportError:
        return ValueError
    return lzma.LZMAError


def _header(line: bytes, size: int) -> Header:
    raw = json.loads(line)
    if not isinstance(raw, dict) or not isinstance(raw.get("spans"), list) or len(raw["spans"]) > _MOST_SPANS:
        raise ValueError("its header is none")
    spans = [_span(one) for one in raw["spans"]]
    made = sum(span.length for span in spans)
    if raw.get("size") != size or made != size:
        raise ValueError(f"it makes {made} bytes instead of {size}")
    base = raw.get("base")
    if not isinstance(base, str) or (not base and any(span.start >= 0 for span in spans)):
        raise ValueError("it names no base")
    return Header(check(base, "digest") if base else "", spans)


def _span(raw: Any) -> Span:
    if not isinstance(raw, list) or len(raw) != 3 or not all(type(one) is int for one in raw):
        raise ValueError("one of its spans is none")
    span = Span(*raw)
    if span.start < -1 or span.length < 0 or span.width not in (1, 2, 4, 8) or span.length % span.width:
        raise ValueError(f"its span {list(span)} cannot be")
    return span


def _spans(body: Body, header: Header, base: Any, out: BinaryIO) -> None:
    masks: Dict[Tuple[int, int], Masks] = {}
    there = os.fstat(base.fileno()).st_size if base else 0
    for span in header.spans:
        if span.start >= 0:
            if span.start + span.length > there:
                raise ValueError("its base is too short")
            base.seek(span.start)
        left = span.length
        while left:
            count = min(left, BLOCK)
            data = _interleave(body.read(count), span.width)
            if span.start >= 0:
                before = base.read(count)
                key = (count, span.width)
                if key not in masks:
                    masks.clear()  # one at a time: most blocks are alike
                    masks[key] = _masks(count, span.width)
                data = add(before, data, span.width, masks[key])
            out.write(data)
            left -= count


def _interleave(planes: bytes, width: int) -> bytes:
    if width == 1:
        return planes
    numbers = bytearray(len(planes))
    count = len(planes) // width
    for plane in range(width):
        numbers[plane::width] = planes[plane * count : (plane + 1) * count]
    return bytes(numbers)


def _masks(size: int, width: int) -> Masks:
    low = int.from_bytes((b"\x01" + bytes(width - 1)) * (size // width), "little")
    high = low << (8 * width - 1)
    return Masks(low, high, ((1 << (8 * size)) - 1) ^ high)


def add(before: bytes, coded: bytes, width: int, masks: Masks) -> bytes:
    """`before` plus zigzag-coded differences, in lanes of `width` bytes that wrap around.

    All lanes at once, as one long integer: the carries between lanes are kept apart (Warren, Hacker's Delight, 2-18).
    """
    number = int.from_bytes(coded, "little")
    odd = number & masks.low
    difference = ((number ^ odd) >> 1) ^ ((odd << (8 * width)) - odd)
    base = int.from_bytes(before, "little")
    total = ((base & masks.rest) + (difference & masks.rest)) ^ ((base ^ difference) & masks.high)
    return total.to_bytes(len(before), "little")


def _refused(why: str, expected: str) -> Fault:
    return Fault("trust", f"the delta {why}", expected=expected, advice="the whole file has to be sent")
