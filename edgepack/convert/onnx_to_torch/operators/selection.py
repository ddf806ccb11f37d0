"""Operators that pick elements by index, or put them there."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from edgepack.convert.onnx_to_torch.module import parameters_of, without_initialization
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor

_REDUCTIONS = {"mul": "prod", "max": "amax", "min": "amin"}


def positive(index: Tensor, size: int) -> Tensor:
    """Indices counted from the front."""
    index = index.to(torch.int64)
    return torch.where(index < 0, index + size, index)


def gather(node: Node) -> Call:
    axis = node.axis(node.integer("axis"))
    size = node.shape(0)[axis]
    if node.known(1) and not node.known(0):
        return _gather_at(axis, size, node.shape(1), node.constants(1))

    if (
        axis == 0
        and node.rank(0) == 2
        and node.known(0)
        and not node.known(1)
        and node.sample(0).dtype.is_floating_point
    ):
        return _embedding(node.weight(0))
    # Indexing takes indices from the end as well, and so does what it is converted to.
    return lambda x, index: x[(slice(None),) * axis + (index.to(torch.int64),)]


def _embedding(table: Tensor) -> Any:
    """Rows of a constant table. One that is not there, as one counted from the end, is an error in torch and in LiteRT."""
    module = without_initialization(nn.Embedding, *table.shape)
    (module.weight,) = parameters_of(table)
    return module


def _gather_at(axis: int, size: int, shape: tuple[int, ...], index: tuple[int, ...]) -> Call:
    places = [i % size for i in index]
    if not shape:
        return lambda x, _: x.select(axis, places[0])
    if len(shape) == 1 and places == list(range(places[0], places[0] + len(places))):
        return lambda x, _: x.narrow(axis, places[0], len(places))

    def call(x: Tensor, _: None) -> Tensor:
        found = x.index_select(axis, torch.tensor(places, device=x.device))
        return found.reshape((*x.shape[:axis], *shape, *x.shape[axis + 1 :]))

    return call


def gather_elements(node: Node) -> Call:
    axis = node.axis(node.integer("axis"))
    size = node.shape(0)[axis]
    return lambda x, index: _cropped(x, index, axis).gather(axis, positive(index, size))


def _cropped(x: Tensor, index: Tensor, axis: int) -> Tensor:
    for other in range(x.dim()):
        if other != axis and x.shape[other] != index.shape[other]:
            x = x.narrow(other, 0, index.shape[other])
    return x


def gather_nd(node: Node) -> Call:
    batch, shape, width = node.integer("batch_dims"), node.shape(0), node.shape(1)[-1]
    picked, rest = shape[batch : batch + width], shape[batch + width :]
    lead, groups = node.shape(1)[:-1], math.prod(shape[:batch])

    def call(x: Tensor, index: Tensor) -> Tensor:
        flat = _flat(index.reshape(groups, -1, width), picked)
        flat = flat + torch.arange(groups, device=x.device)[:, None] * math.prod(picked)
        table = x.reshape(groups * math.prod(picked), -1)
        return table.index_select(0, flat.reshape(-1)).reshape((*lead, *rest))

    return call


def _flat(index: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Places `[…, len(sizes)]` as places in the flattened array."""
    flat: Any = 0
    for position, size in enumerate(sizes):
        flat = flat * size + positive(index[..., position], size)
    return flat


def scatter_elements(node: Node) -> Call:
    axis = node.axis(node.integer("axis"))
    size, way = node.shape(0)[axis], node.text("reduction", "none")
    if way == "none":
        return lambda x, index, update: x.scatter(axis, positive(index, size), update)
    return lambda x, index, update: _combined(x, axis, positive(index, size), update, way)


def _combined(x: Tensor, axis: int, index: Tensor, update: Tensor, way: str) -> Tensor:
    if way == "add":
        return x.scatter_add(axis, index, update)
    return x.scatter_reduce(axis, index, update, _REDUCTIONS[way])


def scatter_nd(node: Node) -> Call:
    shape, width, way = node.shape(0), node.shape(1)[-1], node.text("reduction", "none")
    picked, rest = shape[:width], shape[width:]

    def call(x: Tensor, index: Tensor, update: Tensor) -> Tensor:
        rows = _flat(index.reshape(-1, width), picked)[:, None].expand(-1, math.prod(rest))
        table, news = x.reshape(math.prod(picked), -1), update.reshape(-1, math.prod(rest))
        if way == "none":
            return table.scatter(0, rows, news).reshape(shape)
        return _combined(table, 0, rows, news, way).reshape(shape)

    return call


def one_hot(node: Node) -> Call:
    depth = int(node.scalar(1))
    rank = node.rank(0) + 1
    axis = node.integer("axis", -1) % rank
    shape = [-1 if a == axis else 1 for a in range(rank)]

    def call(index: Tensor, _: None, values: Tensor) -> Tensor:
        places = torch.arange(depth, device=index.device).reshape(shape)
        hit = torch.remainder(index.to(torch.int64), depth).unsqueeze(axis) == places
        inside = ((index >= -depth) & (index < depth)).unsqueeze(axis)
        return torch.where(hit & inside, values[1], values[0])

    return call


def compress(node: Node) -> Call:
    chosen = [place for place, kept in enumerate(node.constant(1).reshape(-1)) if kept]
    axis = node.attributes.get("axis")

    def call(x: Tensor, _: None) -> Tensor:
        places = torch.tensor(chosen, dtype=torch.int64, device=x.device)
        return x.reshape(-1).index_select(0, places) if axis is None else x.index_select(axis % x.dim(), places)

    return call


def reverse_sequence(node: Node) -> Call:
    time, batch = node.integer("time_axis", 0), node.integer("batch_axis", 1)
    if node.known(1) and set(node.constants(1)) == {node.shape(0)[time]}:
        return lambda x, _: x.flip(time)
    node.consumed.discard(1)

    def call(x: Tensor, lengths: Tensor) -> Tensor:
        place = torch.arange(x.shape[time], device=x.device)[:, None]
        index = torch.where(place < lengths[None], lengths[None] - 1 - place, place)
        index = index if time < batch else index.t()
        index = index.reshape(*index.shape, *(1,) * (x.dim() - 2)).expand(x.shape)
        return x.gather(time, index)

    return call


SELECTIONS: Table = {
    "Compress": compress,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "OneHot": one_hot,
    "ReverseSequence": reverse_sequence,
    "Scatter": scatter_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
}
