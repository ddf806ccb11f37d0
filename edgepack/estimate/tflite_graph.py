"""A TFLite file as operators that compute, with the shapes that it states."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgepack.estimate.operators import Graph, Op, Shape
from edgepack.runtimes import foreign


def read(file: Path) -> Graph:
    """Raises InputError where the file is broken."""
    tools = foreign.import_framework(
        "ai_edge_litert.tools.flatbuffer_utils", "tflite", "counting what a model computes"
    )
    with foreign.reading(file.name, expected="a whole TFLite file"):
        model = tools.read_model(str(file))
        main = model.subgraphs[0]
        named = [(op, tools.opcode_to_name(model, op.opcodeIndex) or "CUSTOM") for op in main.operators]
    shapes = [tuple(1 if size < 0 else int(size) for size in _list(tensor.shape)) for tensor in main.tensors]
    stored = [math.prod(shape) for shape, tensor in zip(shapes, main.tensors, strict=True) if _holds(model, tensor)]
    return Graph(tuple(_ops(named, shapes)), sum(stored))


def _holds(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _ops(named: Sequence[tuple[Any, str]], shapes: Sequence[Shape]) -> Iterator[Op]:
    for op, kind in named:
        inputs = [shapes[index] if index >= 0 else () for index in _list(op.inputs)]
        output = shapes[_list(op.outputs)[0]]
        if kind in ("CONV_2D", "CONV_3D"):
            weight = inputs[1] if kind == "CONV_2D" else (inputs[1][-1], *inputs[1][:-1])  # out, …taps, in
            groups = max(1, inputs[0][-1] // weight[-1])
            yield Op("convolution", output, inputs[0], weight[1:-1], weight[-1], groups)
        elif kind == "DEPTHWISE_CONV_2D":
            yield Op("convolution", output, inputs[0], inputs[1][1:3], 1, max(2, inputs[0][-1]))
        elif kind == "TRANSPOSE_CONV":
            yield Op("transposed", output, inputs[2], inputs[1][1:3], inputs[1][0])
        elif kind == "FULLY_CONNECTED":
            yield Op("matrix", output, inputs[0], channels=inputs[1][-1])
        elif kind == "BATCH_MATMUL":
            yield Op("matrix", output, inputs[0], channels=math.prod(inputs[0]) // max(1, math.prod(output[:-1])))
        elif kind in ("UNIDIRECTIONAL_SEQUENCE_LSTM", "UNIDIRECTIONAL_SEQUENCE_RNN"):
            weights = sum(math.prod(shape) for shape in inputs[1:] if len(shape) == 2 and shape != inputs[0][:2])
            steps = inputs[0][0] * inputs[0][1]
            yield Op("recurrent", output, inputs[0], channels=steps * weights)


def _list(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]
