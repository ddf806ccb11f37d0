"""A float TFLite file and its quantized form side by side, from layer to layer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from edgepack.compress.correction import Channels, Layer, nearest
from edgepack.compress.tflite_graph import Graph
from edgepack.compress.tflite_stages import CHANNEL_AXIS, Stages, constant, is_layer, scale_of, stored
from edgepack.runtimes import foreign
from edgepack.samples import Array, Samples

_BIAS = 2


class TfliteWalk:
    """See correction.Walk. `shift` writes into the buffers of `quantized`, which then is packed anew."""

    def __init__(self, floating: Graph, quantized: Graph, samples: Samples) -> None:
        self._quantized = quantized
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

    def shift(self, layer: Layer, change: Channels) -> None:
        index = self._quantized.nodes[self._places[self._numbers[layer]]].inputs[_BIAS]
        scale = scale_of(self._quantized, index)
        assert scale is not None
        values = constant(self._quantized, index)
        limits = np.iinfo(values.dtype)
        moved = np.rint(change / scale.step.astype(np.float64))
        integers = np.clip(values + moved, limits.min, limits.max).astype(values.dtype)
        _write(self._quantized, index, integers)
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
        alone = sum(index in other.inputs for other in self._quantized.nodes) == 1
        return alone and self._quantized.constant[index] and self._quantized.types[index] in ("INT32", "INT64")


def _pairs(floating: Graph, quantized: Graph) -> Iterator[tuple[int, int]]:
    """The layers that are quantized: their place among the nodes of the float file and of the quantized one.

    The quantizer adds operators that move between integers and float; the others keep their order.
    """
    ours = [place for place, node in enumerate(floating.nodes) if node.kind in CHANNEL_AXIS]
    theirs = [place for place, node in enumerate(quantized.nodes) if node.kind in CHANNEL_AXIS]
    assert len(ours) == len(theirs), "a layer was added or lost"
    for our, their in zip(ours, theirs, strict=True):
        given, weights = quantized.nodes[their].inputs[:2]
        integers = quantized.types[given] in ("INT8", "INT16") and quantized.types[weights] == "INT8"
        if integers and is_layer(floating, floating.nodes[our]) and is_layer(quantized, quantized.nodes[their]):
            yield our, their


def _write(graph: Graph, index: int, values: Array) -> None:
    """Give a tensor a buffer of its own: equal biases of several layers share one."""
    schema = foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "quantizing for TFLite")
    tensor = graph.model.subgraphs[0].tensors[index]
    used = sum(other.buffer == tensor.buffer for part in graph.model.subgraphs for other in part.tensors)
    data = np.frombuffer(values.tobytes(), np.uint8)
    if used == 1:
        graph.model.buffers[tensor.buffer].data = data
        return
    buffer = schema.BufferT()
    buffer.data = data
    graph.model.buffers.append(buffer)
    tensor.buffer = len(graph.model.buffers) - 1
