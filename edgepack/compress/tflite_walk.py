"""A float TFLite file and its quantized form side by side, from layer to layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgepack.compress.correction import Channels, Layer, nearest
from edgepack.compress.rounding import Rows, windows
from edgepack.compress.tflite_graph import Graph
from edgepack.compress.tflite_stages import CHANNEL_AXIS, Stages, constant, is_layer, packed, scale_of, stored
from edgepack.runtimes import foreign
from edgepack.samples import Array, Samples

_BIAS = 2


class TfliteWalk:
    """See correction.Walk. `shift` writes into the buffers of `quantized`, which then is packed anew."""

    def __init__(self, floating: Graph, quantized: Graph, samples: Samples) -> None:
        self._floating, self._quantized = floating, quantized
        batches = list(samples.batches(1))
        inputs = [[batch[place] for batch in batches] for place in range(len(floating.inputs))]
        self._float = Stages(floating, inputs)
        self._integer = Stages(
            quantized,
            [
                [stored(quantized, index, values) for values in column]
                for index, column in zip(quantized.inputs, inputs, strict=True)
            ],
        )
        self._places = dict(_pairs(floating, quantized))
        self.layers = tuple(self._layers(floating))
        self._numbers = dict(zip(self.layers, self._places, strict=True))

    def reach(self, layer: Layer) -> Iterable[tuple[Array, Array]]:
        place = self._numbers[layer]
        return zip(self._float.reach(place), self._integer.reach(self._places[place]), strict=True)

    def rows(self, layer: Layer) -> Rows | None:
        place = self._places[self._numbers[layer]]
        graph, node = self._quantized, self._quantized.nodes[place]
        options = graph.model.subgraphs[0].operators[place].builtinOptions
        scale = scale_of(graph, node.inputs[1])
        if scale is None or not self._alone(node.inputs[1]):
            return None
        limit = 7 if graph.types[node.inputs[1]] == "INT4" else 127
        if getattr(options, "dilationWFactor", 1) != 1 or getattr(options, "dilationHFactor", 1) != 1:
            return None
        real = constant(self._floating, self._floating.nodes[self._numbers[layer]].inputs[1]).astype(np.float32)
        given = self._integer.entering(place)
        if node.kind == "FULLY_CONNECTED":
            inputs = np.concatenate([values.reshape(-1, real.shape[1]) for values in given])[None].astype(np.float32)
            steps = np.broadcast_to(scale.step, len(real))[None, :, None].astype(np.float32)
            return Rows(real[None], steps, inputs, limit)
        if given[0].shape[1] < real.shape[1] or given[0].shape[2] < real.shape[2]:
            return None
        images = [values[0].transpose(2, 0, 1) for values in given]
        kernel = real.shape[1], real.shape[2]
        depthwise = node.kind == "DEPTHWISE_CONV_2D"
        groups = images[0].shape[0] if depthwise else images[0].shape[0] // real.shape[3]
        outputs = real.transpose(3, 0, 1, 2) if depthwise else real.transpose(0, 3, 1, 2)
        rows = outputs.reshape(groups, len(outputs) // groups, -1)
        steps = np.broadcast_to(scale.step, len(outputs)).reshape(*rows.shape[:2], 1).astype(np.float32)
        return Rows(rows, steps, windows(images, kernel, groups), limit)

    def replace(self, layer: Layer, integers: NDArray[np.int8]) -> None:
        node = self._quantized.nodes[self._places[self._numbers[layer]]]
        shape = self._quantized.model.subgraphs[0].tensors[node.inputs[1]].shape
        if node.kind == "FULLY_CONNECTED":
            values = integers[0]
        elif node.kind == "DEPTHWISE_CONV_2D":
            values = integers.reshape(shape[3], 1, shape[1], shape[2]).transpose(1, 2, 3, 0)
        else:
            values = integers.reshape(shape[0], shape[3], shape[1], shape[2]).transpose(0, 2, 3, 1)
        write_constant(self._quantized, node.inputs[1], np.ascontiguousarray(values))

    def _alone(self, index: int) -> bool:
        return sum(index in node.inputs for node in self._quantized.nodes) == 1

    def shift(self, layer: Layer, change: Channels) -> None:
        index = self._quantized.nodes[self._places[self._numbers[layer]]].inputs[_BIAS]
        scale, values = scale_of(self._quantized, index), constant(self._quantized, index)
        if scale is None:
            write_constant(self._quantized, index, values + change.astype(np.float32))
        else:
            limits = np.iinfo(values.dtype)
            moved = np.rint(change / scale.step.astype(np.float64))
            write_constant(self._quantized, index, np.clip(values + moved, limits.min, limits.max).astype(values.dtype))
        self._integer.add(change.astype(np.float32))

    def _layers(self, floating: Graph) -> Iterator[Layer]:
        names, operators = floating.names, [floating.operator(node) for node in floating.nodes]
        sources = {
            names[output]: (operator.name, tuple(names[index] for index in node.inputs if index >= 0))
            for node, operator in zip(floating.nodes, operators, strict=True)
            for output in node.outputs
        }
        found = {operators[place].name for place in self._places}
        for place, other in self._places.items():
            after = nearest([names[floating.nodes[place].inputs[0]]], sources, found)
            yield Layer(operators[place], self._has_bias(other), after)

    def _has_bias(self, place: int) -> bool:
        node = self._quantized.nodes[place]
        if len(node.inputs) <= _BIAS or node.inputs[_BIAS] < 0:
            return False
        index = node.inputs[_BIAS]
        return (
            self._alone(index)
            and self._quantized.constant[index]
            and self._quantized.types[index] in ("INT32", "INT64", "FLOAT32")
        )


def _pairs(floating: Graph, quantized: Graph) -> Iterator[tuple[int, int]]:
    """The layers that are quantized: their place among the nodes of the float file and of the quantized one.

    The quantizer adds operators that move between integers and float; the others keep their order.
    """
    ours = [place for place, node in enumerate(floating.nodes) if node.kind in CHANNEL_AXIS]
    theirs = [place for place, node in enumerate(quantized.nodes) if node.kind in CHANNEL_AXIS]
    assert len(ours) == len(theirs), "a layer was added or lost"
    for our, their in zip(ours, theirs, strict=True):
        given, weights = quantized.nodes[their].inputs[:2]
        integers = quantized.types[given] in ("INT8", "INT16", "FLOAT32") and quantized.types[weights] in (
            "INT8",
            "INT4",
        )
        if integers and is_layer(floating, floating.nodes[our]) and is_layer(quantized, quantized.nodes[their]):
            yield our, their


def write_constant(graph: Graph, index: int, values: Array) -> None:
    """Give a tensor a buffer of its own: equal biases of several layers share one."""
    schema = foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "quantizing for TFLite")
    tensor = graph.model.subgraphs[0].tensors[index]
    used = sum(other.buffer == tensor.buffer for part in graph.model.subgraphs for other in part.tensors)
    values = packed(values) if graph.types[index] == "INT4" else values
    data = np.frombuffer(values.tobytes(), np.uint8)
    if used == 1:
        graph.model.buffers[tensor.buffer].data = data
        return
    buffer = schema.BufferT()
    buffer.data = data
    graph.model.buffers.append(buffer)
    tensor.buffer = len(graph.model.buffers) - 1
