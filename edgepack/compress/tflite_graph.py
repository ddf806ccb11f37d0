"""A TFLite file as its operators and tensors: which compute in float, which are quantized already, what it is called by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgepack.compress.operators import Operator
from edgepack.errors import InputError
from edgepack.runtimes import foreign

SIGNATURE = "serving_default"
_MOVES = {"QUANTIZE", "DEQUANTIZE"}
_WEIGHTED = {
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "EMBEDDING_LOOKUP", "CONV_3D",
    "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN",
}  # fmt: skip
_CONTROL = {"WHILE", "IF", "CALL"}
_TAIL = 12
"""Operators after a layer that are taken for the end of a graph."""
_INTEGERS = {"INT2", "INT4", "INT8", "UINT8", "INT16"}


@dataclass(frozen=True)
class Node:
    """kind: the schema's name of the operator; inputs, outputs: indices of the subgraph's tensors, -1 for an absent one"""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """The main subgraph of a TFLite file.

    model: the schema's `ModelT`, whose buffers are views of the file's bytes
    types: the schema's name of each tensor's dtype; names: of each tensor; constant: whether it holds data
    """

    model: Any
    nodes: tuple[Node, ...]
    types: tuple[str, ...]
    names: tuple[str, ...]
    constant: tuple[bool, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def operator(self, node: Node) -> Operator:
        return Operator(node.kind, self.names[node.outputs[0]] if node.outputs else "")


def read(data: bytes, name: str) -> Graph:
    """The graph of a TFLite file's bytes. Raises InputError naming the file when it is broken."""
    tools = foreign.import_framework("ai_edge_litert.tools.flatbuffer_utils", "tflite", "quantizing for TFLite")
    with foreign.reading(name, expected="a whole TFLite file"):
        model = tools.read_model_from_bytearray(data)
        for buffer in model.buffers:
            if buffer.data is not None:  # packing walks over anything but an array byte by byte
                buffer.data = np.frombuffer(buffer.data, np.uint8)
        main = model.subgraphs[0]
        nodes = tuple(
            Node(tools.opcode_to_name(model, op.opcodeIndex) or "CUSTOM", _indices(op.inputs), _indices(op.outputs))
            for op in main.operators
        )
        return Graph(
            model=model,
            nodes=nodes,
            types=tuple(tools.type_to_name(tensor.type) for tensor in main.tensors),
            names=tuple(tensor.name.decode("utf-8", "replace") for tensor in main.tensors),
            constant=tuple(_holds_data(model, tensor) for tensor in main.tensors),
            inputs=_indices(main.inputs),
            outputs=_indices(main.outputs),
        )


def pack(graph: Graph) -> bytes:
    """The bytes of a graph whose `model` was changed."""
    return pack_model(graph.model)


def pack_model(model: Any) -> bytes:
    """The bytes of the schema's `ModelT`."""
    tools = foreign.import_framework("ai_edge_litert.tools.flatbuffer_utils", "tflite", "quantizing for TFLite")
    return bytes(tools.convert_object_to_bytearray(model))


def already_quantized(graph: Graph) -> str:
    """What shows that a graph is quantized already, in words; empty when it computes and stores its weights in float."""
    kinds = {node.kind for node in graph.nodes}
    if kinds & _MOVES:
        return f"it holds {' and '.join(sorted(kinds & _MOVES))} operators"
    for index in range(len(graph.types)):
        if graph.types[index] in _INTEGERS and _has_scale(graph, index):
            return f"its tensor {graph.names[index]} is {graph.types[index].lower()} with a scale"
    return ""


def computing(graph: Graph) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """Operators whose result is stored as integers with a scale, and those whose result is float."""
    integer, floating = [], []
    for node in graph.nodes:
        if node.kind in _MOVES or not node.outputs:
            continue
        output = node.outputs[0]
        if graph.types[output] in ("FLOAT32", "FLOAT16"):
            floating.append(graph.operator(node))
        elif _has_scale(graph, output):
            integer.append(graph.operator(node))
    return tuple(integer), tuple(floating)


def storing(graph: Graph) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """Operators with constant weights stored in less than float32 (directly, or behind a DEQUANTIZE), and in float32."""
    source = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.kind == "DEQUANTIZE"}
    small: list[Operator] = []
    large: list[Operator] = []
    for node in graph.nodes:
        if node.kind not in _WEIGHTED:
            continue
        stored = [source.get(index, index) for index in node.inputs if index >= 0]
        kinds = [graph.types[index] for index in stored if graph.constant[index] and _is_matrix(graph, index)]
        if kinds:
            (large if "FLOAT32" in kinds else small).append(graph.operator(node))
    return tuple(small), tuple(large)


def in_float16(graph: Graph) -> tuple[str, ...]:
    """The names of the operators whose constant weights are stored as float16, behind a DEQUANTIZE."""
    source = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.kind == "DEQUANTIZE"}
    narrow = {wide for wide, given in source.items() if graph.constant[given] and graph.types[given] == "FLOAT16"}
    weighted = [node for node in graph.nodes if node.kind in _WEIGHTED]
    return tuple(graph.operator(node).name for node in weighted if narrow.intersection(node.inputs))


def weights(graph: Graph) -> dict[str, int]:
    """How many constant weights each layer takes, depthwise ones apart; by the operator's name."""
    tensors = graph.model.subgraphs[0].tensors
    layers = [node for node in graph.nodes if node.kind in _WEIGHTED - {"DEPTHWISE_CONV_2D"}]
    return {
        graph.operator(node).name: sum(
            int(np.prod(tensors[index].shape)) for index in node.inputs if _is_weight(graph, index)
        )
        for node in layers
        if any(_is_weight(graph, index) for index in node.inputs)
    }


def control_flow(graph: Graph) -> str:
    """The kind of an operator that runs a subgraph of its own, as a recurrent layer of Keras does; empty where there is none."""
    return next((node.kind for node in graph.nodes if node.kind in _CONTROL), "")


def final_softmaxes(graph: Graph) -> tuple[str, ...]:
    """The names of the tensors that a SOFTMAX gives to the outside, directly or through a RESHAPE."""
    producer = {node.outputs[0]: node for node in graph.nodes if node.outputs}
    found = []
    for output in graph.outputs:
        node = producer.get(output)
        while node is not None and node.kind == "RESHAPE":
            node = producer.get(node.inputs[0])
        if node is not None and node.kind == "SOFTMAX":
            found.append(graph.names[node.outputs[0]])
    return tuple(found)


def divisions(graph: Graph) -> tuple[str, ...]:
    """The names of what a DIV gives whose divisor is computed: an integer kernel ends the run where that rounds to zero."""
    found = [node for node in graph.nodes if node.kind == "DIV" and not graph.constant[node.inputs[1]]]
    return tuple(graph.names[node.outputs[0]] for node in found)


def last_operators(graph: Graph, output: int) -> tuple[str, ...]:
    """The last layer before an output of the graph, and the operators between; empty where they are many or lead nowhere."""
    producer = {node.outputs[0]: node for node in graph.nodes if node.outputs}
    layer, found, pending = "", dict[str, None](), [graph.outputs[output]]
    while pending and len(found) <= _TAIL:
        node = producer.get(pending.pop(0))
        if node is None or graph.operator(node).name in found:
            continue
        if node.kind in _WEIGHTED and any(index >= 0 and graph.constant[index] for index in node.inputs):
            layer = layer or graph.operator(node).name
            continue
        found[graph.operator(node).name] = None
        pending.extend(node.inputs)
    return (layer, *found) if layer and len(found) <= _TAIL else ()


def signature_names(graph: Graph, file: str) -> tuple[str, ...]:
    """The names of the inputs in the file's only signature; empty where it has none. Raises InputError when it has several."""
    signatures = graph.model.signatureDefs or []
    if len(signatures) > 1:
        keys = ", ".join(signature.signatureKey.decode() for signature in signatures)
        raise InputError(f"{file}: it has {len(signatures)} signatures ({keys})", expected="one signature, or none")
    return tuple(entry.name.decode() for entry in signatures[0].inputs) if signatures else ()


def add_signature(graph: Graph) -> tuple[str, ...]:
    """Give a graph without one a signature, as the quantizer needs; the inputs' names, in the graph's order."""
    schema = foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "quantizing for TFLite")

    def entries(prefix: str, indices: tuple[int, ...]) -> Iterator[Any]:
        for place, index in enumerate(indices):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = f"{prefix}_{place}".encode(), index
            yield entry

    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = list(entries("args", graph.inputs)), list(entries("output", graph.outputs))
    graph.model.signatureDefs = [signature]
    return tuple(f"args_{place}" for place in range(len(graph.inputs)))


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values) if values is not None else ()


def _holds_data(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _is_weight(graph: Graph, index: int) -> bool:
    return index >= 0 and graph.constant[index] and _is_matrix(graph, index)


def _is_matrix(graph: Graph, index: int) -> bool:
    shape = graph.model.subgraphs[0].tensors[index].shape
    return shape is not None and len(shape) >= 2


def _has_scale(graph: Graph, index: int) -> bool:
    quantization = graph.model.subgraphs[0].tensors[index].quantization
    return quantization is not None and quantization.scale is not None and len(quantization.scale) > 0
