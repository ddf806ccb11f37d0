"""Pools."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.operators.window import Window, window_of
from edgepack.convert.onnx_to_torch.tensors import lowest

_MAXIMA = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGES = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


def _kernel(node: Node) -> tuple[int, ...]:
    kernel = node.integers("kernel_shape") or ()
    if len(kernel) not in _MAXIMA:
        raise node.refuse(f"it has {len(kernel)} spatial dimensions; 1, 2 and 3 are possible")
    return kernel


def max_pool(node: Node) -> Call:
    if node.wants(1):
        raise node.refuse("its second output (the places of the maxima) is used")
    kernel = _kernel(node)
    window, pool = window_of(node, kernel), _MAXIMA[len(kernel)]
    dtype = node.sample(0).dtype
    kept = window.symmetric and all(2 * b <= k for b, k in zip(window.begin, kernel, strict=True))
    around = 0 if not kept else window.begin
    pads, fill = [] if kept else window.padding(), lowest(dtype)

    def call(x: Tensor) -> Tensor:
        x = F.pad(x, pads, value=fill) if any(pads) else x
        return pool(x, kernel, window.stride, around, window.dilation)

    # torch pools no small integers; a float holds them exactly.
    return call if dtype.is_floating_point else lambda x: _as_float(x, pads, fill, call)


def _as_float(x: Tensor, pads: list[int], fill: float, call: Call) -> Tensor:
    return call(x.to(torch.float32)).to(x.dtype)


class WeightedPool(nn.Module):
    """An average over padded windows. scale: `[1, 1, *spatial]`, the window's size over the cells that count."""

    def __init__(self, pool: Call, pads: list[int], scale: Tensor) -> None:
        super().__init__()
        self.pool, self.pads = pool, pads
        self.register_buffer("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(F.pad(x, self.pads)) * self.scale


def average_pool(node: Node) -> Call:
    kernel = _kernel(node)
    window = window_of(node, kernel)
    average, counted = _AVERAGES[len(kernel)], node.flag("count_include_pad")
    if any(d != 1 for d in window.dilation):
        raise node.refuse("its dilations are not 1")
    if not any(window.padding()):
        return lambda x: average(x, kernel, window.stride)
    if counted and not any(window.extra):
        pads = window.padding()
        return lambda x: average(F.pad(x, pads), kernel, window.stride)
    return _weighted(node, window, counted)


def _weighted(node: Node, window: Window, counted: bool) -> nn.Module:
    average, kernel, stride = _AVERAGES[len(window.kernel)], window.kernel, window.stride
    cells = torch.ones(1, 1, *node.shape(0)[2:], dtype=node.sample(0).dtype)
    beyond = [n for extra in window.extra[::-1] for n in (0, extra)]
    inside = F.pad(cells, window.padding(extra=False), value=float(counted))
    share = average(F.pad(inside, beyond), kernel, stride)
    return WeightedPool(lambda x: average(x, kernel, stride), window.padding(), 1 / share)


def lp_pool(node: Node) -> Call:
    kernel, p = _kernel(node), node.integer("p", 2)
    window, average = window_of(node, kernel), _AVERAGES[len(kernel)]
    if any(d != 1 for d in window.dilation):
        raise node.refuse("its dilations are not 1")
    pads, size = window.padding(), math.prod(kernel)
    return lambda x: (average(F.pad(x.abs() ** p, pads), kernel, window.stride) * size) ** (1 / p)


def _spatial(node: Node) -> tuple[int, ...]:
    return tuple(range(2, node.rank(0)))


def global_average(node: Node) -> Call:
    axes = _spatial(node)
    return lambda x: x.mean(axes, keepdim=True)


def global_max(node: Node) -> Call:
    axes = _spatial(node)
    return lambda x: x.amax(axes, keepdim=True)


def global_lp(node: Node) -> Call:
    axes, p = _spatial(node), node.integer("p", 2)
    return lambda x: (x.abs() ** p).sum(axes, keepdim=True) ** (1 / p)


POOLS: Table = {
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "GlobalLpPool": global_lp,
    "GlobalMaxPool": global_max,
    "LpPool": lp_pool,
    "MaxPool": max_pool,
}
