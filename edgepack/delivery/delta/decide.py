"""Which candidates are worth making, and which of those made is sent. Pure: sizes and rates in, a choice out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from edgepack.delivery.delta.encode import Codec

UNKNOWN_RATE = 1.25e6
"""Bytes a second of a link that nobody stated and nothing was measured of."""
_FAST, _SLOW = 60e6, 1.2e6
"""Bytes a second that the host packs with zlib, with xz."""
_UNPACK = 15e6
"""Bytes a second that a board makes of a delta, next to writing what was sent as it is."""
_XZ_GAIN = 0.75
"""What xz makes at best of what zlib makes."""
_SMALL = 256 << 10
_PATIENCE = 15.0
_METERED = 0.5e6
"""Bytes a second below which bytes count more than the host's seconds."""
_LEAST = 128
T = TypeVar("T")


class Case(NamedTuple):
    """size: bytes of the whole file; left: of them that the board still lacks; estimate: bytes of a packed one

    rate: of the link, bytes a second; codecs: that the board unpacks
    """

    size: int
    left: int
    estimate: int
    rate: float
    codecs: Sequence[str]


def worth(case: Case) -> tuple[Codec, ...]:
    """The codecs to make a candidate with; none where sending what is left as it is will be over sooner."""
    if "z" not in case.codecs or case.estimate + _LEAST >= case.left:
        return ()
    whole = case.left / case.rate
    packed = case.size / _FAST + case.estimate / case.rate + case.size / _UNPACK
    if packed >= whole:
        return ()
    if "x" not in case.codecs or not _is_xz_worth(case):
        return ("z",)
    return ("z", "x")


def _is_xz_worth(case: Case) -> bool:
    """Where the time that it saves is more than it takes, and on a slow link as long as nobody waits too long for it."""
    takes = case.size / _SLOW
    saves = (1 - _XZ_GAIN) * case.estimate / case.rate
    return case.size <= _SMALL or takes <= saves or (case.rate <= _METERED and takes <= _PATIENCE)


def smallest(sizes: Sequence[tuple[int, T]], left: int) -> T | None:
    """The smallest candidate, or None where what is left of the whole file is as small."""
    best = min(sizes, key=lambda one: one[0], default=None)
    return best[1] if best and best[0] < left else None
