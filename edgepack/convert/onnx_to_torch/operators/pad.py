"""Padding."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor

_NUMPY = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
_TORCH = {"reflect": "reflect", "edge": "replicate"}


def pad(node: Node) -> Call:
    mode = node.text("mode", "constant")
    pairs = _pairs(node)
    if mode == "constant":
        flat = [n for pair in pairs[::-1] for n in pair]
        if node.opset >= 11 and node.has(2) and not node.known(2):
            return lambda x, _, value, *__: torch.where(F.pad(torch.ones_like(x), flat).bool(), F.pad(x, flat), value)
        value = node.real("value") if node.opset < 11 else node.scalar(2) if node.has(2) else 0
        return lambda x, *_: F.pad(x, flat, value=value)
    if mode not in _NUMPY:
        raise node.refuse(f"its mode is {mode!r}")
    spatial = pairs[2:]
    if (
        mode in _TORCH
        and len(spatial) in (1, 2)
        and not any(any(pair) for pair in pairs[:2])
        and _within(node, spatial)
    ):
        flat = [n for pair in spatial[::-1] for n in pair]
        return lambda x, *_: F.pad(x, flat, mode=_TORCH[mode])
    return _by_index(node, mode, pairs)


def _within(node: Node, spatial: list[tuple[int, int]]) -> bool:
    """Whether torch pads so far: not beyond the other edge, and no cutting."""
    sizes = node.shape(0)[2:]
    return node.sample(0).dtype.is_floating_point and all(
        0 <= n < size for pair, size in zip(spatial, sizes, strict=True) for n in pair
    )


def _pairs(node: Node) -> list[tuple[int, int]]:
    flat = node.integers("pads") if node.opset < 11 else node.constants(1)
    rank = node.rank(0)
    axes = [node.axis(a) for a in node.constants(3)] if node.has(3) else list(range(rank))
    pairs = [(0, 0)] * rank
    for position, axis in enumerate(axes):
        pairs[axis] = ((flat or ())[position], (flat or ())[position + len(axes)])
    return pairs


def _by_index(node: Node, mode: str, pairs: list[tuple[int, int]]) -> Call:
    """Each axis as a selection of places that numpy's padding names."""
    chosen: list[tuple[int, list[int]]] = []
    for axis, (begin, end) in enumerate(pairs):
        if (begin, end) != (0, 0):
            size = node.shape(0)[axis]
            places = np.arange(size)[max(-begin, 0) : size - max(-end, 0)]
            places = np.pad(places, (max(begin, 0), max(end, 0)), mode=_NUMPY[mode])  # type: ignore[call-overload]
            chosen.append((axis, places.tolist()))

    def call(x: Tensor, *_: None) -> Tensor:
        for axis, places in chosen:
            x = x.index_select(axis, torch.tensor(places, device=x.device))
        return x

    return call


PADS: Table = {"Pad": pad}
