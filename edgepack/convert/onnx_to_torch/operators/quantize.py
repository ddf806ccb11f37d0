"""Quantized models as ONNX writes them: scales and zero points between floating operators."""

from __future__ import annotations

import torch
from torch import nn

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.tensors import DTYPES, dtype_name

_ADVICE = "give the float model: edgepack quantizes it itself, for each format in its own way"


class Quantize(nn.Module):
    """`x / scale + zero`, rounded to even, within the type. Scale and zero point are buffers `[…, c, …]` or arrive."""

    def __init__(self, dtype: torch.dtype, scale: Tensor, zero: Tensor) -> None:
        super().__init__()
        self.dtype = dtype
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    def forward(self, x: Tensor) -> Tensor:
        low, high = torch.iinfo(self.dtype).min, torch.iinfo(self.dtype).max
        steps = torch.round(x / self.get_buffer("scale")) + self.get_buffer("zero")
        return torch.clamp(steps, low, high).to(self.dtype)


class Dequantize(nn.Module):
    """`(x - zero) · scale`."""

    def __init__(self, scale: Tensor, zero: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.get_buffer("scale")
        return (x.to(scale.dtype) - self.get_buffer("zero")) * scale


def quantize(node: Node) -> Call:
    scale, zero = _parameters(node)
    wanted = node.integer("output_dtype")
    dtype = node.sample(2).dtype if node.has(2) else DTYPES.get(wanted) if wanted else torch.uint8
    if dtype is None:
        raise node.refuse(f"torch has no {dtype_name(wanted)}", _ADVICE)
    return Quantize(dtype, scale, zero)


def dequantize(node: Node) -> Call:
    return Dequantize(*_parameters(node))


def _parameters(node: Node) -> tuple[Tensor, Tensor]:
    """Scale and zero point, in floating point and so shaped that they meet the input."""
    if node.integer("block_size"):
        raise node.refuse("it quantizes in blocks", _ADVICE)
    if not node.known(1) or (node.has(2) and not node.known(2)):
        raise node.refuse("its scale is computed from the model's inputs", _ADVICE)
    scale = node.weight(1)
    zero = node.weight(2).to(scale.dtype) if node.has(2) else torch.zeros_like(scale)
    if scale.numel() == 1:
        return scale.reshape(()), zero.reshape(())
    axis = node.axis(node.integer("axis", 1))
    shape = [-1 if a == axis else 1 for a in range(node.rank(0))]
    return scale.reshape(shape), zero.reshape(shape)


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
