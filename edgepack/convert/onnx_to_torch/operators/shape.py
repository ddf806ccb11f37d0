"""Operators that move elements about, and those that make them from shapes."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.operators.elementwise import plain
from edgepack.convert.onnx_to_torch.tensors import DTYPES, from_proto


def reshape(node: Node) -> Call:
    given = list(node.constants(1))
    shape = node.shape(0)
    if not node.flag("allowzero"):
        given = [shape[axis] if size == 0 else size for axis, size in enumerate(given)]
    if -1 in given:
        rest = math.prod(size for size in given if size != -1)
        given[given.index(-1)] = math.prod(shape) // max(rest, 1)
    return to_shape(shape, tuple(given))


def to_shape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Call:
    """A reshape that leaves the first axis as long as it comes, where it can: training goes in batches."""
    if not shape or not wanted or shape[0] != wanted[0] or 0 in shape:
        return lambda x, *_: x.reshape(wanted)
    if len(wanted) <= len(shape) and shape[: len(wanted) - 1] == wanted[:-1]:
        return lambda x, *_: x if len(wanted) == len(shape) else x.flatten(len(wanted) - 1)
    return lambda x, *_: x.reshape(x.shape[0], *wanted[1:])


def flatten(node: Node) -> Call:
    axis, shape = node.integer("axis", 1), node.shape(0)
    axis = axis + len(shape) if axis < 0 else axis
    return to_shape(shape, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def squeeze(node: Node) -> Call:
    axes = node.integers("axes") if node.opset < 13 else node.constants(1) if node.has(1) else None
    shape = node.shape(0)
    gone = {node.axis(a) for a in axes} if axes is not None else {a for a, size in enumerate(shape) if size == 1}
    if any(shape[axis] != 1 for axis in gone):
        raise node.refuse(f"axes {sorted(gone)} of {list(shape)} are not all of size 1")
    order = sorted(gone, reverse=True)

    def call(x: Tensor, *_: None) -> Tensor:
        for axis in order:
            x = x.squeeze(axis)
        return x

    return call


def unsqueeze(node: Node) -> Call:
    axes = (node.integers("axes") if node.opset < 13 else node.constants(1)) or ()
    rank = node.rank(0) + len(axes)
    order = sorted(axis % rank for axis in axes)

    def call(x: Tensor, *_: None) -> Tensor:
        for axis in order:
            x = x.unsqueeze(axis)
        return x

    return call


def transpose(node: Node) -> Call:
    order = node.integers("perm") or tuple(reversed(range(node.rank(0))))
    return lambda x: x.permute(order)


def concat(node: Node) -> Call:
    axis = node.axis(node.integer("axis"))
    return lambda *xs: torch.cat(xs, axis)


def split(node: Node) -> Call:
    axis = node.axis(node.integer("axis"))
    size, count = node.shape(0)[axis], len(node.outputs)
    sizes = list(node.integers("split") or ()) if node.opset < 13 else list(node.constants(1) if node.has(1) else ())
    if not sizes:
        step = math.ceil(size / count)
        sizes = [min(step, size - start) for start in range(0, size, step)]
    return lambda x, *_: torch.split(x, sizes, axis)


def cut(node: Node) -> Call:
    """Slice."""
    if node.opset < 10:
        starts, ends = node.integers("starts") or (), node.integers("ends") or ()
        axes, steps = node.integers("axes"), None
    else:
        starts, ends = node.constants(1), node.constants(2)
        axes = node.constants(3) if node.has(3) else None
        steps = node.constants(4) if node.has(4) else None
    rank = node.rank(0)
    given = zip(axes or range(len(starts)), starts, ends, steps or (1,) * len(starts), strict=True)
    ranges = [(node.axis(axis), _between(start, end, step, node.shape(0)[axis])) for axis, start, end, step in given]
    if any(not places for _, places in ranges):
        return lambda x, *_: x[_where(rank, [(axis, slice(0, len(places))) for axis, places in ranges])]
    forward = [
        (axis, slice(min(places[0], places[-1]), max(places[0], places[-1]) + 1, abs(places.step)))
        for axis, places in ranges
        if abs(places.step) != 1 or len(places) != node.shape(0)[axis]
    ]
    turned = [axis for axis, places in ranges if places.step < 0]

    def call(x: Tensor, *_: None) -> Tensor:
        x = x[_where(rank, forward)] if forward else x
        return x.flip(turned) if turned else x

    return call


def _between(start: int, end: int, step: int, size: int) -> range:
    """As Python's slices, but that going backwards a start before the beginning is the beginning."""
    start, end = (place + size if place < 0 else place for place in (start, end))
    if step > 0:
        return range(min(max(start, 0), size), min(max(end, 0), size), step)
    return range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step)


def _where(rank: int, pieces: list[tuple[int, slice]]) -> tuple[slice, ...]:
    found = [slice(None)] * rank
    for axis, piece in pieces:
        found[axis] = piece
    return tuple(found)


def expand(node: Node) -> Call:
    wanted = torch.broadcast_shapes(node.shape(0), node.constants(1))
    return lambda x, _: x.expand(wanted)


def tile(node: Node) -> Call:
    repeats = node.constants(1)
    return lambda x, _: x.repeat(repeats)


def shape_of(node: Node) -> Call:
    shape = node.shape(0)[slice(node.integer("start"), node.attributes.get("end"))]
    return lambda x: torch.tensor(shape, dtype=torch.int64)


def size_of(node: Node) -> Call:
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


_LITERALS = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


def constant(node: Node) -> Call:
    for name, dtype in _LITERALS.items():
        if name in node.attributes:
            value = node.attributes[name]
            return lambda: torch.tensor(value, dtype=dtype)
    if "value" not in node.attributes:
        raise node.refuse("it is neither numbers nor a dense tensor")
    tensor = from_proto(node.attributes["value"])
    if tensor is None:
        raise node.refuse("torch has no such element type")
    return lambda: tensor


def constant_of_shape(node: Node) -> Call:
    shape = node.constants(0)
    value = from_proto(node.attributes["value"]) if "value" in node.attributes else torch.zeros(1)
    if value is None:
        raise node.refuse("torch has no such element type")
    return lambda _: torch.full(shape, value.item(), dtype=value.dtype)


def range_of(node: Node) -> Call:
    start, limit, step = (node.scalar(i) for i in range(3))
    dtype = node.sample(0).dtype
    count = max(math.ceil((limit - start) / step), 0)
    return lambda *_: (start + step * torch.arange(count, dtype=torch.float64)).to(dtype)


def depth_to_space(node: Node) -> Call:
    block = node.integer("blocksize")
    if node.text("mode", "DCR") == "CRD":
        return lambda x: F.pixel_shuffle(x, block)
    channels = node.shape(0)[1] // block**2

    def call(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        ordered = x.reshape(n, block**2, channels, h * w).transpose(1, 2).reshape(n, c, h, w)
        return F.pixel_shuffle(ordered, block)

    return call


def space_to_depth(node: Node) -> Call:
    block = node.integer("blocksize")
    if node.text("mode", "DCR") == "CRD":
        return lambda x: F.pixel_unshuffle(x, block)

    def call(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        found = F.pixel_unshuffle(x, block)
        h, w = h // block, w // block
        return found.reshape(n, c, block**2, h * w).transpose(1, 2).reshape(n, c * block**2, h, w)

    return call


def triangle(node: Node) -> Call:
    diagonal = int(node.scalar(1)) if node.has(1) else 0
    keep = torch.triu if node.flag("upper", True) else torch.tril
    return lambda x, *_: keep(x, diagonal)


def eye_like(node: Node) -> Call:
    offset, (rows, columns) = node.integer("k"), node.shape(0)
    dtype = DTYPES[node.integer("dtype")] if "dtype" in node.attributes else node.sample(0).dtype
    return lambda x: (torch.arange(columns)[None] - torch.arange(rows)[:, None] == offset).to(dtype)


def dropout(node: Node) -> Call:
    if node.opset >= 12 and node.has(2) and node.scalar(2):
        raise node.refuse("it is in training mode", "export the model for inference (model.eval())")
    if node.wants(1):
        return lambda x, *_: (x, torch.ones_like(x, dtype=torch.bool))
    return lambda x, *_: x


def identity(x: Tensor) -> Tensor:
    return x


SHAPES: Table = {
    "Concat": concat,
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Expand": expand,
    "EyeLike": eye_like,
    "Flatten": flatten,
    "Identity": plain(identity),
    "Range": range_of,
    "Reshape": reshape,
    "Shape": shape_of,
    "Size": size_of,
    "Slice": cut,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Trilu": triangle,
    "Unsqueeze": unsqueeze,
}
