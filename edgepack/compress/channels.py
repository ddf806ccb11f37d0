"""Arithmetic of quantized channels: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF = np.finfo(np.float16)
_BIAS_LIMIT = 2.0**30  # half of what an int32 holds: the library may widen an input's range after we looked at it


def per_channel(weights: Floats, axes: Sequence[int], levels: int) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric integers of `weights` and the step of each channel along `axes` (shape kept, 1 in the other axes).

    weights ≈ integers × steps, integers in [-levels, levels]; a channel of zeros gets the step 1, never 0.
    """
    others = tuple(other for other in range(weights.ndim) if other not in axes)
    bounds = np.abs(weights).max(axis=others, keepdims=True, initial=0.0)
    steps = np.where(bounds > 0, bounds / levels, 1).astype(np.float32)
    steps = np.where(steps > 0, steps, np.finfo(np.float32).tiny)  # a denormal bound may divide to nothing
    return np.clip(np.rint(weights / steps), -levels, levels).astype(np.int8), steps


def least_bounds(bias: Floats, input_step: float) -> NDArray[np.float64]:
    """The least absolute maximum that each channel's weights need for its bias to fit in an int32.

    A quantized bias counts steps of `input_step` × (the channel's absolute maximum / 127).
    """
    return np.abs(bias.astype(np.float64)) * 127 / (_BIAS_LIMIT * input_step)


def with_bounds(weights: Floats, bounds: NDArray[np.float64], axis: int) -> Floats:
    """`weights` with the first weight of each channel that is smaller than its bound raised to it; the same array if none is.

    Such a weight moves the output by less than 127 × 255 / 2^30 of the channel's bias over the whole quantized input range.
    """
    others = tuple(other for other in range(weights.ndim) if other != axis)
    low = np.abs(weights).max(axis=others, initial=0.0) < bounds
    if weights.size == 0 or not low.any():
        return weights
    rows = np.moveaxis(weights.copy(), axis, 0)
    flat = rows.reshape(rows.shape[0], -1).copy()
    signs = np.where(flat[low, 0] < 0, -1.0, 1.0)
    flat[low, 0] = (signs * bounds[low]).astype(np.float32)
    return np.ascontiguousarray(np.moveaxis(flat.reshape(rows.shape), 0, axis))


def in_blocks(rows: Floats, block: int, levels: int) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric integers of `rows` `[channels, length]` in [-levels, levels] and the steps `[channels, blocks, 1]` of each block.

    A block's step is the one of least squared error among the full range and smaller ones: with few levels, clipping the
    largest weight costs less than coarse steps for all others. Steps are values of float16, in which they may be stored.
    """
    blocks = rows.reshape(len(rows), -1, block).astype(np.float32)
    bounds = np.abs(blocks).max(axis=-1, keepdims=True)
    best, least = np.ones_like(bounds), np.full_like(bounds, np.inf)
    for shrink in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7):
        steps = np.where(bounds > 0, bounds * np.float32(shrink / levels), 1).astype(np.float32)
        steps = np.clip(steps, _HALF.smallest_subnormal, _HALF.max).astype(np.float16).astype(np.float32)
        errors = ((np.clip(np.rint(blocks / steps), -levels, levels) * steps - blocks) ** 2).sum(axis=-1, keepdims=True)
        best, least = np.where(errors < least, steps, best), np.minimum(errors, least)
    return np.clip(np.rint(blocks / best), -levels, levels).astype(np.int8), best


def smallest(sizes: Mapping[str, int], share: float = 0.1) -> set[str]:
    """The names of the smallest tensors that together hold at most a share of all their weights.

    First layers are the small ones and the sensitive ones: 8 bits for a tenth of the weights cost 10 % of what 4 bits take.
    """
    ordered = sorted(sizes, key=lambda name: (sizes[name], name))
    held = np.cumsum([sizes[name] for name in ordered])
    return {name for name, sum in zip(ordered, held, strict=True) if sum <= share * held[-1]}
