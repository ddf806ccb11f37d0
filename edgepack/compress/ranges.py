"""From the histogram of a tensor to the range that its integers should cover. Pure.

Every range holds zero, which quantized kernels need (padding is zero), and lies within what was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from edgepack.compress.histogram import HALF, Histogram

Method = Literal["minmax", "mse", "percentile", "entropy"]
METHODS: tuple[Method, ...] = ("minmax", "mse", "percentile", "entropy")

_KEPT = 0.9999
"""The share of values that `percentile` keeps: onnxruntime's and TensorRT's usual 99.99 %."""
_SHRINKS = np.linspace(1.0, 0.2, 65)
_KL_SHRINKS = np.linspace(1.0, 0.3, 29)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Range:
    """low ≤ 0 ≤ high"""

    low: float
    high: float


def choose(seen: Histogram, method: Method, levels: int) -> Range:
    """The range for integers of `levels` values (256 for 8 bits)."""
    match method:
        case "minmax":
            return minmax(seen)
        case "mse":
            return mse(seen, levels)
        case "percentile":
            return percentile(seen)
        case "entropy":
            return entropy(seen, levels)
        case _:
            assert_never(method)


def minmax(seen: Histogram) -> Range:
    """All that was seen."""
    return Range(min(seen.low, 0.0), max(seen.high, 0.0))


def percentile(seen: Histogram, kept: float = _KEPT) -> Range:
    """What leaves out half of 1 − `kept` of the values at either end (but no more than zero)."""
    whole, total = minmax(seen), seen.total
    if total == 0:
        return whole
    beyond = (1 - kept) / 2 * total
    edges = _edges(seen)
    below = np.concatenate([[0], np.cumsum(seen.counts)])
    low = float(np.interp(beyond, below, edges))
    high = float(np.interp(total - beyond, below, edges))
    return Range(max(min(low, 0.0), whole.low), min(max(high, 0.0), whole.high))


def mse(seen: Histogram, levels: int) -> Range:
    """The range of the least expected squared error: a grid over both ends.

    A value inside costs step² / 12 (zero is stored exactly), one outside the square of what is cut off. As in Nagel et al.,
    "A White Paper on Neural Network Quantization" (2021), section 3.1.
    """
    whole = minmax(seen)
    if seen.total == 0 or whole.low == whole.high:
        return whole
    counts, centers = seen.counts.astype(np.float64), np.clip(_centers(seen), whole.low, whole.high)
    lows = np.unique(whole.low * _SHRINKS)
    highs = np.unique(whole.high * _SHRINKS)
    cut_low = _beyond(-centers[::-1], counts[::-1], -lows)
    cut_high = _beyond(centers, counts, highs)
    steps = (highs[None, :] - lows[:, None]) / (levels - 1)
    errors = cut_low[:, None] + cut_high[None, :] + (seen.total - seen.zeros) * steps**2 / 12
    row, column = np.unravel_index(int(np.argmin(errors)), errors.shape)
    return Range(float(lows[row]), float(highs[column]))


def entropy(seen: Histogram, levels: int) -> Range:
    """The range whose quantized distribution loses the least information (Kullback-Leibler) on the one that was seen.

    As in Migacz, "8-bit inference with TensorRT" (GTC 2017), with both ends of an asymmetric range moved together.
    """
    whole = minmax(seen)
    if seen.total == 0 or whole.low == whole.high:
        return whole
    edges = _edges(seen)
    best, least = whole, np.inf
    for shrink in _KL_SHRINKS:
        low, high = float(whole.low * shrink), float(whole.high * shrink)
        first = int(np.searchsorted(edges, low, "right")) - 1
        last = int(np.searchsorted(edges, high, "left"))
        loss = _divergence(seen.counts, max(first, 0), min(max(last, first + 1), 2 * HALF), levels)
        if loss < least - 1e-12:
            best, least = Range(low, high), loss
    return best


def clipped(seen: Histogram, range: Range) -> float:
    """The share of values that lie outside a range, 0..1, to within a bin at either end."""
    if seen.total == 0:
        return 0.0
    centers = np.clip(_centers(seen), seen.low, seen.high)
    outside = seen.counts[(centers < range.low) | (centers > range.high)].sum()
    return float(outside) / seen.total


def _divergence(counts: NDArray[np.int64], first: int, last: int, levels: int) -> float:
    """KL(P ‖ Q) of bins first … last − 1: P with what lies outside folded into its edges, Q what `levels` steps tell of it."""
    inside = counts[first:last].astype(np.float64)
    folded = inside.copy()
    folded[0] += counts[:first].sum()
    folded[-1] += counts[last:].sum()
    group = np.arange(len(inside)) * min(levels, len(inside)) // len(inside)
    held = inside > 0
    sums = np.bincount(group, inside)
    filled = np.bincount(group, held)
    spread = np.where(held, (sums / np.maximum(filled, 1))[group], 0.0)
    p, q = folded / folded.sum(), spread / max(spread.sum(), 1.0)
    both = p > 0
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-9))))


def _beyond(values: Floats, counts: Floats, bounds: Floats) -> Floats:
    """For each bound b the sum of counts × (value − b)² over values > b; values ascend."""
    m0, m1, m2 = (np.concatenate([np.cumsum((counts * values**k)[::-1])[::-1], [0.0]]) for k in range(3))
    at = np.searchsorted(values, bounds, "right")
    errors: Floats = np.maximum(m2[at] - 2 * bounds * m1[at] + bounds**2 * m0[at], 0.0)
    return errors


def _edges(seen: Histogram) -> Floats:
    edges: Floats = np.arange(-HALF, HALF + 1, dtype=np.float64) * seen.width
    return edges


def _centers(seen: Histogram) -> Floats:
    centers: Floats = np.arange(-HALF + 0.5, HALF, dtype=np.float64) * seen.width
    return centers
