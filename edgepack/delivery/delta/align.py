"""Which bytes of the old file each stretch of the new one is compared with. Pure."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from edgepack.delivery.delta.tensors import Tensor

LITERAL = -1


class Span(NamedTuple):
    """A stretch of the new file, after the one before. start: where its counterpart in the old one is, or LITERAL"""

    start: int
    length: int
    width: int


class Layout(NamedTuple):
    """A file as far as it matters here. tensors: by where they start, disjoint; size: bytes"""

    tensors: Sequence[Tensor]
    size: int


def align(new: Layout, old: Layout | None) -> tuple[Span, ...]:
    """Spans that cover `new`. A tensor has its namesake of the same length as its counterpart, or else the next one of that
    length; what lies before it, what lies before its counterpart if that is as long.
    """
    if old is None or bool(new.tensors) != bool(old.tensors):
        return tuple(_spans(new, [LITERAL] * len(new.tensors), (LITERAL,) * (len(new.tensors) + 1)))
    if not new.tensors:
        common = min(new.size, old.size)
        return tuple(span for span in (Span(0, common, 1), Span(LITERAL, new.size - common, 1)) if span.length)
    found = _match(new.tensors, old.tensors)
    starts = [LITERAL if index is None else old.tensors[index].start for index in found]
    gaps = [*(_gap(new, i, old, index) for i, index in enumerate(found)), _last_gap(new, old)]
    return tuple(_spans(new, starts, gaps))


def _match(new: Sequence[Tensor], old: Sequence[Tensor]) -> list[int | None]:
    """For each new tensor the index of its old one. No old one serves twice."""
    named: dict[tuple[str, int, int], deque[int]] = defaultdict(deque)
    for index, tensor in enumerate(old):
        named[(tensor.name, tensor.length, tensor.width)].append(index)
    found: list[int | None] = []
    for tensor in new:
        same = named.get((tensor.name, tensor.length, tensor.width))
        found.append(same.popleft() if same else None)
    taken = set(found)
    free: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for index, tensor in enumerate(old):
        if index not in taken:
            free[(tensor.length, tensor.width)].append(index)
    for place, tensor in enumerate(new):
        rest = free.get((tensor.length, tensor.width))
        if found[place] is None and rest:
            found[place] = rest.popleft()
    return found


def _gap(new: Layout, index: int, old: Layout, match: int | None) -> int:
    if match is None:
        return LITERAL
    ours, theirs = _before(new.tensors, index), _before(old.tensors, match)
    length = new.tensors[index].start - ours
    return theirs if length == old.tensors[match].start - theirs else LITERAL


def _before(tensors: Sequence[Tensor], index: int) -> int:
    return tensors[index - 1].start + tensors[index - 1].length if index else 0


def _last_gap(new: Layout, old: Layout) -> int:
    ours, theirs = _before(new.tensors, len(new.tensors)), _before(old.tensors, len(old.tensors))
    return theirs if new.size - ours == old.size - theirs else LITERAL


def _spans(new: Layout, starts: Sequence[int], gaps: Sequence[int]) -> Iterator[Span]:
    at = 0
    for tensor, start, gap in zip(new.tensors, starts, gaps[:-1], strict=True):
        if tensor.start > at:
            yield Span(gap, tensor.start - at, 1)
        yield Span(start, tensor.length, tensor.width)
        at = tensor.start + tensor.length
    if new.size > at:
        yield Span(gaps[-1], new.size - at, 1)
