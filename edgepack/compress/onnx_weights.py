"""Weights of an ONNX file rounded to what its layers answer, where only weights are integers: everything computes in float."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.compress import onnx_graph
from edgepack.compress.correction import Channels, Layer
from edgepack.compress.onnx_stored import OnGrid
from edgepack.compress.onnx_walk import CHANNELS, OnnxWalk, is_plain
from edgepack.runtimes import foreign
from edgepack.samples import Array, Samples


class OnnxWeightWalk(OnnxWalk):
    """See correction.Walk. Beside the float model walks a copy whose weights are what their integers mean.

    model: a ModelProto; rounded: that copy; grids: of its weights by name, as they are after the walk
    """

    def __init__(self, model: Any, grids: dict[str, OnGrid], names: Sequence[str], samples: Samples) -> None:
        self.grids = grids
        self.rounded = type(model).FromString(model.SerializeToString())
        for tensor in self.rounded.graph.initializer:
            if tensor.name in grids:
                _write(tensor, grids[tensor.name].meant())
        super().__init__(model, self.rounded, names, samples)

    def replace(self, layer: Layer, integers: NDArray[np.int8]) -> None:
        name = self._quantized.nodes[layer.operator.name].input[1]
        grid = self.grids[name]
        self.grids[name] = replace(grid, integers=integers.reshape(grid.integers.shape))
        _write(self._constants[name], self.grids[name].meant())

    def shift(self, layer: Layer, change: Channels) -> None:
        bias = self._constants[self._quantized.nodes[layer.operator.name].input[2]]
        _write(bias, onnx_graph.array(bias) + change.astype(np.float32))
        self._quantized.add(layer.operator.name, change.astype(np.float32), CHANNELS[layer.operator.kind])

    def _is_rounded(self, node: Any) -> bool:
        return not self.grids.keys().isdisjoint(node.input)

    def _grid(self, node: Any) -> tuple[Array, int] | None:
        grid = self.grids.get(node.input[1])
        if (
            grid is None
            or not is_plain(node, self._constants[node.input[1]])
            or self._quantized.uses[node.input[1]] != 1
        ):
            return None
        steps = np.broadcast_to(grid.steps, grid.integers.shape)
        return steps.reshape(len(steps), -1).astype(np.float32), grid.limit

    def _has_bias(self, node: Any) -> bool:
        if len(node.input) < 3 or self._quantized.uses.get(node.input[2]) != 1 or not onnx_graph.adds_its_bias(node):
            return False
        bias = self._constants.get(node.input[2])
        return bias is not None and len(bias.dims) == 1


def _write(tensor: Any, values: Array) -> None:
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
