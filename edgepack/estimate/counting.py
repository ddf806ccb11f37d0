"""What a model file computes, operator by operator, read from the file itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

from edgepack.estimate import onnx_graph, tflite_graph
from edgepack.estimate.operators import Op
from edgepack.names import FileFormat
from edgepack.work import Work


def count(file: Path, format: FileFormat) -> Work:
    """Count a model file for one sample; open sizes count as 1.

    Raises InputError where the file is broken, or the shape of something that computes is not known.
    """
    match format:
        case "onnx":
            graph = onnx_graph.read(file)
        case "tflite":
            graph = tflite_graph.read(file)
        case _:
            assert_never(format)
    return total(graph.ops, graph.parameters)


def total(ops: Sequence[Op], parameters: int) -> Work:
    sums = {"dense": 0, "pointwise": 0, "depthwise": 0, "matrix": 0}
    for op in ops:
        kind, macs = _cost(op)
        sums[kind] += macs
    return Work(**sums, parameters=parameters)


def _cost(op: Op) -> tuple[str, int]:
    """Which kind of product, and how many of them."""
    match op.kind:
        case "convolution":
            taps, spread = math.prod(op.taps), math.prod(op.output)
            macs = spread * taps * op.channels
            kind = "depthwise" if op.channels == 1 and op.groups > 1 else "pointwise" if taps == 1 else "dense"
            return kind, macs
        case "transposed":
            return "dense", math.prod(op.input) * math.prod(op.taps) * op.channels
        case "matrix":
            return "matrix", math.prod(op.output) * op.channels
        case "recurrent":
            return "matrix", op.channels
        case _:
            assert_never(op.kind)
