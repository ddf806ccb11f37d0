"""What the values of one tensor looked like over all samples, in bounded memory: seen once, asked as often as wanted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

HALF = 2048
"""Bins on either side of zero."""
LOOKED_AT = 16384
"""Values of one tensor of one sample that are counted; its least and greatest are those of all."""


class Histogram:
    """Counts in bins of equal width on both sides of zero. The width is a power of two and doubles when a value lies beyond.

    Two neighbouring bins of one width are one bin of the next, so the counts are those that the last width would have given
    from the start: the order of the samples does not matter.

    counts: `[2 × HALF]`, bin i holds [(i − HALF) × width, (i − HALF + 1) × width); zeros: how many of the counted are exactly 0
    low, high: the least and greatest finite value of all that were seen (not only of those counted); 0, 0 before the first
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(2 * HALF, np.int64)
        self.zeros = 0
        self.low, self.high = math.inf, -math.inf
        self._exponent: int | None = None
        self._offset = 0

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self._exponent) if self._exponent is not None else 1.0 / HALF

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    def add(self, values: NDArray[Any]) -> None:
        """Count the values of a tensor of one sample, of any shape and of a float dtype. What is not finite is left out."""
        flat = np.asarray(values, np.float32).reshape(-1)
        if flat.size == 0:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            flat = flat[np.isfinite(flat)]
            if flat.size == 0:
                return
            low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(abs(low), abs(high)))
        step = _step(flat.size)
        some = flat[self._offset % step :: step]
        self._offset += 1
        scale = np.float32(math.ldexp(1.0, -self._exponent)) if self._exponent is not None else np.float32(1)
        bins = np.floor(some * scale).astype(np.int32) + HALF
        self.counts += np.bincount(bins, minlength=2 * HALF)
        self.zeros += int(some.size - np.count_nonzero(some))

    def _widen(self, reach: float) -> None:
        """Make the bins wide enough for a magnitude of `reach`."""
        if reach == 0:
            return
        # frexp: reach < 2^exponent. Below 2^-126 + 12 a float32 could not be scaled up exactly.
        wanted = max(math.frexp(reach)[1], -100) - (HALF.bit_length() - 1)
        if self._exponent is None:
            self._exponent = wanted
            return
        for _ in range(wanted - self._exponent):
            pairs = self.counts.reshape(HALF, 2).sum(axis=1)
            self.counts = np.zeros(2 * HALF, np.int64)
            self.counts[HALF // 2 : HALF // 2 + HALF] = pairs
            self._exponent += 1


def _step(size: int) -> int:
    """Every how many values one is counted: coprime with the size, hence with every axis, so that all channels are met alike."""
    step = -(-size // LOOKED_AT)
    while math.gcd(step, size) != 1:
        step += 1
    return step
