"""An ONNX file as operators that compute, with the shapes that ONNX's own inference finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgepack.errors import InputError
from edgepack.estimate.operators import Graph, Op, Shape
from edgepack.runtimes import foreign

_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "QLinearConv": 3}
_MATRICES = {"MatMul": 1, "MatMulInteger": 1, "Gemm": 1, "QLinearMatMul": 3, "MatMulIntegerToFloat": 1, "QGemm": 3}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def read(file: Path) -> Graph:
    """Raises InputError where the file is broken or a shape that counts is not known."""
    onnx = foreign.import_framework("onnx", "onnx", "counting what a model computes")
    with foreign.reading(file.name, expected="a whole ONNX file"):
        model = onnx.load(str(file))
    for value in (*model.graph.input, *model.graph.output):
        for size in value.type.tensor_type.shape.dim:
            if not size.HasField("dim_value"):
                size.dim_value = 1
    del model.graph.value_info[:]  # of the open size, where it was open
    with foreign.reading(file.name, expected="a graph whose shapes can be found"):
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    weights = sum(math.prod(weight.dims) for weight in graph.initializer)
    return Graph(tuple(_ops(graph, shapes, file.name)), weights)


def _shapes(graph: Any) -> dict[str, Shape]:
    found = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape"):
            found[value.name] = tuple(size.dim_value if size.HasField("dim_value") else 1 for size in sizes)
    return found


def _ops(graph: Any, shapes: dict[str, Shape], name: str) -> Iterator[Op]:
    for node in graph.node:
        kind = node.op_type
        output = shapes.get(node.output[0]) if node.output else None
        if kind in _CONVOLUTIONS or kind == "ConvTranspose":
            yield _convolution(node, shapes, output, name)
        elif kind in _MATRICES:
            yield _matrix(node, shapes, output, name)
        elif kind in _GATES:
            yield _recurrent(node, shapes, name)


def _convolution(node: Any, shapes: dict[str, Shape], output: Shape | None, name: str) -> Op:
    weight = shapes.get(node.input[_CONVOLUTIONS.get(node.op_type, 1)])
    data = shapes.get(node.input[0])
    if weight is None or output is None or data is None:
        raise _unknown(node, name)
    groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
    if node.op_type == "ConvTranspose":
        return Op("transposed", output, data, weight[2:], weight[1])
    return Op("convolution", output, data, weight[2:], weight[1], groups)


def _matrix(node: Any, shapes: dict[str, Shape], output: Shape | None, name: str) -> Op:
    left = shapes.get(node.input[0])
    if not left or output is None:
        raise _unknown(node, name)
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return Op("matrix", output, left, channels=left[0] if turned else left[-1])


def _recurrent(node: Any, shapes: dict[str, Shape], name: str) -> Op:
    """input [steps, batch, features], weights [directions, gates · hidden, features] and [directions, gates · hidden, hidden]."""
    data, weight, state = (shapes.get(node.input[index]) for index in range(3))
    if not data or not weight or not state:
        raise _unknown(node, name)
    output = shapes.get(node.output[0], (*data[:2], state[-1]))
    return Op("recurrent", output, data, channels=data[0] * data[1] * (math.prod(weight) + math.prod(state)))


def _unknown(node: Any, name: str) -> InputError:
    return InputError(
        f"{name}: the shapes at {node.op_type} {node.output[0]!r} are not known",
        advice="fix the input shapes of the model and build again",
    )
