"""Quantized models as ONNX writes them: scales and zero points between floating operators."""

from __future__ import annotations

import torch

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.tensors import DTYPES, dtype_name

_ADVICE = "give the float model: edgepack quantizes it itself, for each format in its own way"


def _shaped(node: Node, index: int) -> list[int]:
    """How a scale or zero point `[c]` must lie to meet the input."""
    if node.integer("block_size"):
        raise node.refuse("it quantizes in blocks", _ADVICE)
    if node.rank(index) == 0 or node.sample(index).numel() == 1:
        return []
    axis = node.axis(node.integer("axis", 1))
    return [-1 if a == axis else 1 for a in range(node.rank(0))]


def quantize(node: Node) -> Call:
    shape = _shaped(node, 1)
    wanted = node.integer("output_dtype")
    dtype = node.sample(2).dtype if node.has(2) else DTYPES.get(wanted) if wanted else torch.uint8
    if dtype is None:
        raise node.refuse(f"torch has no {dtype_name(wanted)}", _ADVICE)
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max

    def call(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        steps = torch.round(x / scale.reshape(shape))
        steps = steps if zero is None else steps + zero.reshape(shape).to(x.dtype)
        return torch.clamp(steps, low, high).to(dtype)

    return call


def dequantize(node: Node) -> Call:
    shape = _shaped(node, 1)

    def call(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        steps = x.to(scale.dtype)
        steps = steps if zero is None else steps - zero.reshape(shape).to(scale.dtype)
        return steps * scale.reshape(shape)

    return call


def integer_arithmetic(node: Node) -> Call:
    raise node.refuse("it computes in integers", _ADVICE)


QUANTIZED: Table = {
    "ConvInteger": integer_arithmetic,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": integer_arithmetic,
    "MatMulInteger": integer_arithmetic,
    "QLinearConv": integer_arithmetic,
    "QLinearMatMul": integer_arithmetic,
    "QuantizeLinear": quantize,
}
