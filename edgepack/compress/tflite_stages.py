"""A TFLite file cut into stages that end at a layer, each a small file of its own that LiteRT runs once for all samples."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.compress import tflite_graph
from edgepack.compress.tflite_graph import Graph, Node
from edgepack.compress.tflite_watch import invoke, open_interpreter
from edgepack.runtimes import foreign
from edgepack.samples import Array

CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Layers, and which axis of their weights their outputs' channels run along."""

_ACTIVATIONS = {0: (-np.inf, np.inf), 1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""The schema's fused activations that clamp: NONE, RELU, RELU_N1_TO_1, RELU6."""


@dataclass(frozen=True)
class Scale:
    """real = (stored − zero) × step, elementwise or along `axis`"""

    step: Array
    zero: Array
    axis: int


def scale_of(graph: Graph, index: int) -> Scale | None:
    quantization = graph.model.subgraphs[0].tensors[index].quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None
    step = np.asarray(quantization.scale, np.float32)
    zero = np.zeros(len(step), np.int64) if quantization.zeroPoint is None else np.asarray(quantization.zeroPoint)
    return Scale(step, zero.astype(np.int64), int(quantization.quantizedDimension))


def constant(graph: Graph, index: int) -> Array:
    """A copy of a constant tensor's stored values."""
    tensor = graph.model.subgraphs[0].tensors[index]
    data = graph.model.buffers[tensor.buffer].data
    if graph.types[index] == "INT4":
        return unpacked(data, int(np.prod(tensor.shape))).reshape(tensor.shape)
    values: Array = np.array(data.view(np.dtype(graph.types[index].lower()))).reshape(tensor.shape)
    return values


def unpacked(data: Array, count: int) -> Array:
    """Integers of 4 bits, two a byte, the first in the low ones."""
    nibbles = np.stack([data & 15, data >> 4], axis=-1).reshape(-1)[:count].astype(np.int8)
    values: Array = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)
    return values


def packed(values: Array) -> Array:
    """What `unpacked` reads."""
    flat = values.reshape(-1).astype(np.int8).view(np.uint8) & 15
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    data: Array = flat[::2] | flat[1::2] << 4
    return data


def is_layer(graph: Graph, node: Node) -> bool:
    """Whether a node has constant weights and an activation that only clamps."""
    if node.kind not in CHANNEL_AXIS or not graph.constant[node.inputs[1]]:
        return False
    operator = graph.model.subgraphs[0].operators[graph.nodes.index(node)]
    return operator.builtinOptions.fusedActivationFunction in _ACTIVATIONS


class Stages:
    """A file run up to one layer after the other; each of its operators runs once for each sample.

    Everything runs as the file has it but the layers asked for: those run in float, on what their integers mean, so that
    their outputs can be seen before they are clamped and rounded. Tensors are kept as long as an operator still needs them.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Sequence[Array]]) -> None:
        """inputs: for each of the graph's inputs an array a sample, as the file stores it."""
        self._graph = graph
        self._held: dict[int, list[Array]] = dict(zip(graph.inputs, (list(each) for each in inputs), strict=True))
        self._waiting: dict[int, int] = {}
        for node in graph.nodes:
            for index in node.inputs:
                self._waiting[index] = self._waiting.get(index, 0) + 1
        self._producer = {index: place for place, node in enumerate(graph.nodes) for index in node.outputs}
        self._ran: set[int] = set()
        self._pending: tuple[Node, list[Array]] | None = None

    def entering(self, place: int) -> list[Array]:
        """What comes into layer number `place` of the graph's nodes, real values, one array a sample."""
        self._approach(place)
        index = self._graph.nodes[place].inputs[0]
        return [meant(self._graph, index, values) for values in self._held[index]]

    def reach(self, place: int) -> list[Array]:
        """The float output of layer number `place` of the graph's nodes before its activation, one array a sample."""
        self._approach(place)
        node = self._graph.nodes[place]
        stage = Stage(self._graph)
        stage.add_float_layer(node, self._graph.model.subgraphs[0].operators[place])
        outputs = [result[0] for result in stage.run([self._held[node.inputs[0]]])]
        self._finish([place], ())
        self._pending = node, outputs
        return outputs

    def add(self, change: Array) -> None:
        """Add `change`, one value a channel, to the output reached last."""
        assert self._pending is not None
        node, outputs = self._pending
        self._pending = node, [output + change for output in outputs]

    def _approach(self, place: int) -> None:
        self._settle()
        before = [each for each in self._missing(place) if each != place]
        if before:
            self._run(before, (self._graph.nodes[place].inputs[0],))

    def _settle(self) -> None:
        """Make of the output reached last what the file stores: clamped, and rounded where it is quantized."""
        if self._pending is None:
            return
        node, outputs = self._pending
        operator = self._graph.model.subgraphs[0].operators[self._graph.nodes.index(node)]
        low, high = _ACTIVATIONS[operator.builtinOptions.fusedActivationFunction]
        index = node.outputs[0]
        self._held[index] = [stored(self._graph, index, np.clip(output, low, high)) for output in outputs]
        self._pending = None

    def _missing(self, place: int) -> list[int]:
        needed: set[int] = set()
        pending = [place]
        while pending:
            here = pending.pop()
            if here in needed or here in self._ran:
                continue
            needed.add(here)
            pending.extend(self._producer[i] for i in self._graph.nodes[here].inputs if i in self._producer)
        return sorted(needed)

    def _run(self, places: list[int], wanted: tuple[int, ...]) -> None:
        nodes = [self._graph.nodes[place] for place in places]
        made = {index for node in nodes for index in node.outputs}
        for node in nodes:
            for index in node.inputs:
                self._waiting[index] -= 1
        kept = sorted(i for i in made if i in wanted or self._waiting.get(i, 0) > 0)
        fed = sorted({i for node in nodes for i in node.inputs if i in self._held} - made)
        for node in nodes:
            for index in node.inputs:
                self._waiting[index] += 1
        stage = Stage(self._graph)
        stage.add(nodes, [self._graph.model.subgraphs[0].operators[place] for place in places], fed, kept)
        results = stage.run([self._held[index] for index in fed])
        for column, index in enumerate(kept):
            self._held[index] = [result[column] for result in results]
        self._finish(places, wanted)

    def _finish(self, places: list[int], wanted: tuple[int, ...]) -> None:
        for place in places:
            self._ran.add(place)
            for index in self._graph.nodes[place].inputs:
                self._waiting[index] -= 1
        for index in [i for i in self._held if self._waiting.get(i, 0) == 0 and i not in wanted]:
            del self._held[index]


class Stage:
    """A small TFLite file made of operators of another one."""

    def __init__(self, graph: Graph) -> None:
        self._schema = foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "quantizing for TFLite")
        self._graph = graph
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [self._schema.BufferT()]
        self._codes = list(graph.model.operatorCodes)
        self._operators: list[Any] = []
        self._places: dict[int, int] = {}
        self._inputs: list[int] = []
        self._outputs: list[int] = []

    def add(self, nodes: Sequence[Node], operators: Sequence[Any], fed: Sequence[int], kept: Sequence[int]) -> None:
        """Operators as they are; fed, kept: tensors of the other file that come in and go out."""
        self._inputs.extend(self._place(index) for index in fed)
        for node, operator in zip(nodes, operators, strict=True):
            fresh = copy.copy(operator)
            fresh.inputs = [self._place(index) if index >= 0 else -1 for index in node.inputs]
            fresh.outputs = [self._place(index) for index in node.outputs]
            fresh.intermediates = []
            self._operators.append(fresh)
        self._outputs.extend(self._place(index) for index in kept)

    def add_float_layer(self, node: Node, operator: Any) -> None:
        """One layer in float: its input as it is stored and turned to float, its weights too; no activation."""
        given = self._place(node.inputs[0])
        self._inputs.append(given)
        shape = self._graph.model.subgraphs[0].tensors
        if self._graph.types[node.inputs[0]] != "FLOAT32":
            wide = self._fresh(shape[node.inputs[0]].shape)
            self._operators.append(self._operator(self._schema.BuiltinOperator.DEQUANTIZE, [given], [wide]))
            given = wide
        fresh = copy.copy(operator)
        fresh.builtinOptions = copy.copy(operator.builtinOptions)
        fresh.builtinOptions.fusedActivationFunction = 0
        constants = [self._fresh(shape[i].shape, real(self._graph, i)) if i >= 0 else -1 for i in node.inputs[1:]]
        output = self._fresh(shape[node.outputs[0]].shape)
        fresh.inputs, fresh.outputs, fresh.intermediates = [given, *constants], [output], []
        self._operators.append(fresh)
        self._outputs.append(output)

    def run(self, inputs: Sequence[Sequence[Array]]) -> list[list[Array]]:
        """For each sample the tensors that go out. inputs: for each tensor that comes in an array a sample."""
        interpreter = open_interpreter(self._pack())
        outputs = [detail["index"] for detail in interpreter.get_output_details()]
        results = []
        for batch in zip(*inputs, strict=True):
            invoke(interpreter, batch)
            results.append([interpreter.get_tensor(index) for index in outputs])
        return results

    def _pack(self) -> bytes:
        subgraph = self._schema.SubGraphT()
        subgraph.tensors, subgraph.operators = self._tensors, self._operators
        subgraph.inputs, subgraph.outputs = self._inputs, self._outputs
        model = self._schema.ModelT()
        model.version, model.operatorCodes = 3, self._codes
        model.subgraphs, model.buffers = [subgraph], self._buffers
        return tflite_graph.pack_model(model)

    def _place(self, index: int) -> int:
        if index not in self._places:
            tensor = copy.copy(self._graph.model.subgraphs[0].tensors[index])
            buffer = self._graph.model.buffers[tensor.buffer]
            tensor.buffer = 0
            if self._graph.constant[index]:
                self._buffers.append(buffer)
                tensor.buffer = len(self._buffers) - 1
            self._tensors.append(tensor)
            self._places[index] = len(self._tensors) - 1
        return self._places[index]

    def _fresh(self, shape: Any, values: Array | None = None) -> int:
        tensor = self._schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer = shape, self._schema.TensorType.FLOAT32, 0
        tensor.name = f"fresh_{len(self._tensors)}".encode()
        if values is not None:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            self._buffers.append(buffer)
            tensor.buffer = len(self._buffers) - 1
        self._tensors.append(tensor)
        return len(self._tensors) - 1

    def _operator(self, code: int, inputs: list[int], outputs: list[int]) -> Any:
        kind = self._schema.OperatorCodeT()
        kind.builtinCode = kind.deprecatedBuiltinCode = code
        kind.version = 3
        self._codes.append(kind)
        operator = self._schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = len(self._codes) - 1, inputs, outputs
        return operator


def real(graph: Graph, index: int) -> Array:
    """What the stored values of a constant tensor mean, float32."""
    return meant(graph, index, constant(graph, index))


def meant(graph: Graph, index: int, values: Array) -> Array:
    """What stored values of a tensor mean, float32."""
    scale = scale_of(graph, index)
    if scale is None or graph.types[index] == "FLOAT32":
        return values.astype(np.float32)
    shape = [1] * values.ndim
    if len(scale.step) > 1:
        shape[scale.axis] = -1
    step, zero = scale.step.astype(np.float64).reshape(shape), scale.zero.reshape(shape)
    wide: Array = ((values - zero) * step).astype(np.float32)
    return wide


def stored(graph: Graph, index: int, values: Array) -> Array:
    """How a file stores values of a tensor: as they are (also tokens and flags), or rounded to the steps of its scale."""
    scale, kind = scale_of(graph, index), np.dtype(graph.types[index].lower())
    if scale is None or kind == np.float32:
        return values.astype(kind)
    limits = np.iinfo(kind)
    steps = np.rint(values / scale.step[0]) + scale.zero[0]
    integers: Array = np.clip(steps, limits.min, limits.max).astype(kind)
    return integers
