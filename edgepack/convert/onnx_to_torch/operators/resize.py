"""Resizing: nearest, linear and cubic, each axis on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.samples import Array

_CUBIC_DEFAULT = -0.75
_TIE = 1e-6
"""How near to the middle onnxruntime takes for the middle; compared with it over 456 pairs of sizes."""


@dataclass(frozen=True)
class Axis:
    """One axis that is resized from `old` to `new`; scale is as given, near `new / old`; roi: start and end, normalized."""

    axis: int
    old: int
    new: int
    scale: float
    roi: tuple[float, float]


@dataclass(frozen=True)
class Way:
    """How places are found and mixed: the attributes of Resize."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude: bool
    antialias: bool
    fill: float


def upsample(node: Node) -> Call:
    scales = node.reals("scales") if node.opset < 9 else tuple(float(s) for s in node.constant(1))
    axes = [_axis(node, at, scale) for at, scale in enumerate(scales or ())]
    return _resized(
        node, axes, Way(node.text("mode", "nearest"), "asymmetric", "floor", _CUBIC_DEFAULT, False, False, 0.0)
    )


def resize(node: Node) -> Call:
    if node.opset < 11:
        return upsample(node)
    way = Way(
        node.text("mode", "nearest"),
        node.text("coordinate_transformation_mode", "half_pixel"),
        node.text("nearest_mode", "round_prefer_floor"),
        node.real("cubic_coeff_a", _CUBIC_DEFAULT),
        node.flag("exclude_outside"),
        node.flag("antialias"),
        node.real("extrapolation_value"),
    )
    return _resized(node, _axes(node, way), way)


def _axes(node: Node, way: Way) -> list[Axis]:
    rank, shape = node.rank(0), node.shape(0)
    chosen = [node.axis(a) for a in node.integers("axes") or range(rank)]
    regions = node.constant(1).reshape(2, -1) if way.coordinates == "tf_crop_and_resize" else np.array([[0.0], [1.0]])
    regions = np.broadcast_to(regions, (2, len(chosen)))
    rois = [(float(a), float(b)) for a, b in regions.T]
    if node.has(2) and node.sample(2).numel():
        scales = [float(s) for s in node.constant(2)]
        return [_axis(node, at, scale, roi) for at, scale, roi in zip(chosen, scales, rois, strict=True)]
    sizes = list(node.constants(3))
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        pick = min if policy == "not_larger" else max
        scale = pick(size / shape[at] for at, size in zip(chosen, sizes, strict=True))
        return [
            Axis(at, shape[at], math.floor(scale * shape[at] + 0.5), scale, roi)
            for at, roi in zip(chosen, rois, strict=True)
        ]
    return [Axis(at, shape[at], n, n / shape[at], roi) for at, n, roi in zip(chosen, sizes, rois, strict=True)]


def _axis(node: Node, at: int, scale: float, roi: tuple[float, float] = (0.0, 1.0)) -> Axis:
    old = node.shape(0)[at]
    return Axis(at, old, math.floor(np.float32(old) * np.float32(scale)), scale, roi)


def _resized(node: Node, axes: list[Axis], way: Way) -> Call:
    cropping = way.coordinates == "tf_crop_and_resize"
    axes = [a for a in axes if a.old != a.new or cropping or a.scale != 1.0]
    if cropping and any(((p := _places(a, way)) < 0).any() or (p > a.old - 1).any() for a in axes):
        raise node.refuse("it extrapolates beyond the input (tf_crop_and_resize)")
    sizes = list(node.shape(0))
    for a in axes:
        sizes[a.axis] = a.new
    picture = node.rank(0) == 4 and all(a.axis in (2, 3) for a in axes)
    if way.mode == "nearest":
        return _nearest(axes, way, sizes if picture else None)
    if way.mode not in ("linear", "cubic", "bilinear"):
        raise node.refuse(f"its mode is {way.mode!r}")
    return _mixed(node, axes, way, sizes if picture else None)


def _places(a: Axis, way: Way) -> Array:
    """Where each output lies among the inputs; in single precision, as onnxruntime computes it."""
    i, scale, one = np.arange(a.new, dtype=np.float32), np.float32(a.scale), np.float32(0.5)
    start, end = a.roi
    match way.coordinates:
        case "asymmetric":
            return i / scale
        case "tf_half_pixel_for_nn":
            return (i + one) / scale
        case "pytorch_half_pixel" if a.new == 1:
            return i
        case "align_corners":
            return i * np.float32((a.old - 1) / max(a.new - 1, 1))
        case "half_pixel_symmetric":
            offset = np.float32(a.old / 2 * (1 - a.new / (a.scale * a.old)))
            return offset + (i + one) / scale - one
        case "tf_crop_and_resize" if a.new == 1:
            return np.array([0.5 * (start + end) * (a.old - 1)], np.float32)
        case "tf_crop_and_resize":
            return np.float32(start * (a.old - 1)) + i * np.float32((end - start) * (a.old - 1) / (a.new - 1))
        case _:
            return (i + one) / scale - one


def _nearest(axes: list[Axis], way: Way, sizes: list[int] | None) -> Call:
    chosen = [(a, _rounded(_places(a, way), way.nearest).clip(0, a.old - 1).astype(int).tolist()) for a in axes]
    # Other ratios than whole ones come out of torch's own, once converted, in other places.
    if sizes is not None and all(
        a.new % a.old == 0 and p == [i * a.old // a.new for i in range(a.new)] for a, p in chosen
    ):
        height, width = sizes[2:]
        return lambda x, *_: F.interpolate(x, (height, width), mode="nearest")

    def call(x: Tensor, *_: None) -> Tensor:
        for a, places in chosen:
            x = x.index_select(a.axis, torch.tensor(places, device=x.device))
        return x

    return call


def _rounded(places: Array, way: str) -> Array:
    match way:
        case "floor":
            return np.floor(places)
        case "ceil":
            return np.ceil(places)
        case "round_prefer_ceil":
            return np.floor(places.astype(np.float64) + 0.5 + _TIE)
        case _:
            return np.ceil(places.astype(np.float64) - 0.5 - _TIE)


class Mixed(nn.Module):
    """Each axis as a product with a matrix `[new, old]`."""

    def __init__(self, matrices: list[tuple[int, Tensor]]) -> None:
        super().__init__()
        self.axes = [axis for axis, _ in matrices]
        for axis, matrix in matrices:
            self.register_buffer(f"axis_{axis}", matrix)

    def forward(self, x: Tensor) -> Tensor:
        for axis in self.axes:
            matrix = self.get_buffer(f"axis_{axis}")
            x = torch.matmul(matrix, x) if axis == x.dim() - 2 else (x.movedim(axis, -1) @ matrix.t()).movedim(-1, axis)
        return x


def _mixed(node: Node, axes: list[Axis], way: Way, sizes: list[int] | None) -> Call:
    matrices = [(a, _matrix(a, way)) for a in axes]
    if sizes is not None and way.mode != "cubic":
        height, width = sizes[2:]
        for corners, coordinates in ((False, "half_pixel"), (True, "align_corners")):
            plain = Way("linear", coordinates, "", 0.0, False, False, 0.0)
            same = (Axis(a.axis, a.old, a.new, a.new / a.old, (0.0, 1.0)) for a in axes)
            if all(np.allclose(m, _matrix(s, plain), atol=1e-6) for (_, m), s in zip(matrices, same, strict=True)):
                return lambda x, *_, c=corners: F.interpolate(x, (height, width), mode="bilinear", align_corners=c)
    for index in range(1, len(node.inputs)):
        if node.known(index):
            node.constant(index)
    dtype = node.sample(0).dtype
    return Mixed([(a.axis, torch.from_numpy(matrix).to(dtype)) for a, matrix in matrices])


def _matrix(a: Axis, way: Way) -> Array:
    """`[new, old]`: what each input adds to each output. Cubic after Keys (1981), antialiasing as in Pillow."""
    matrix = np.zeros((a.new, a.old), np.float64)
    wide = min(a.scale, 1.0) if way.antialias else 1.0
    reach = (2 if way.mode == "cubic" else 1) / wide
    for row, place in enumerate(_places(a, way).astype(np.float64)):
        taps = np.arange(math.floor(place - reach) + 1, math.ceil(place + reach) + 1)
        weights = _kernel((taps - place) * wide, way)
        if way.exclude:
            weights = np.where((taps >= 0) & (taps < a.old), weights, 0.0)
        if way.exclude or way.antialias:
            weights = weights / weights.sum()
        np.add.at(matrix[row], taps.clip(0, a.old - 1), weights)
    return matrix.astype(np.float32)


def _kernel(x: Array, way: Way) -> Array:
    x = np.abs(x)
    if way.mode != "cubic":
        return np.asarray(np.maximum(1 - x, 0.0))
    c = way.cubic
    near = (c + 2) * x**3 - (c + 3) * x**2 + 1
    far = c * x**3 - 5 * c * x**2 + 8 * c * x - 4 * c
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def grid_sample(node: Node) -> Call:
    modes = {
        "bilinear": "bilinear",
        "linear": "bilinear",
        "nearest": "nearest",
        "bicubic": "bicubic",
        "cubic": "bicubic",
    }
    mode, padding = modes[node.text("mode", "linear")], node.text("padding_mode", "zeros")
    corners = node.flag("align_corners")
    return lambda x, grid: F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=corners)


RESIZES: Table = {"GridSample": grid_sample, "Resize": resize, "Upsample": upsample}
