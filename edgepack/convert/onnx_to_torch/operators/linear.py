"""Matrix products, as `nn.Linear` wherever one side is a constant matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from edgepack.convert.onnx_to_torch.module import parameters_of, without_initialization
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor


def linear(weight: Tensor, bias: Tensor | None) -> Any:
    """weight: `[out, in]`; bias: `[out]`"""
    module = without_initialization(nn.Linear, weight.shape[1], weight.shape[0], bias is not None)
    module.weight, module.bias = parameters_of(weight.contiguous(), bias)
    return module


def matmul(node: Node) -> Call:
    if node.known(1) and not node.known(0) and node.rank(1) == 2 and node.sample(1).dtype.is_floating_point:
        return linear(node.weight(1).t(), None)
    return torch.matmul


def gemm(node: Node) -> Call:
    alpha, beta = node.real("alpha", 1.0), node.real("beta", 1.0)
    first, second = node.flag("transA"), node.flag("transB")
    if not first and not node.known(0) and node.known(1) and (not node.has(2) or _is_bias(node)):
        weight = node.weight(1) if second else node.weight(1).t()
        bias = node.weight(2).reshape(-1).expand(weight.shape[0]).clone() * beta if node.has(2) else None
        return linear(weight * alpha if alpha != 1.0 else weight, bias)

    def call(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        product = torch.matmul(a.t() if first else a, b.t() if second else b)
        product = product if alpha == 1.0 else product * alpha
        if c is None:
            return product
        return product + (c if beta == 1.0 else c * beta)

    return call


def _is_bias(node: Node) -> bool:
    out = node.shape(1)[0 if node.flag("transB") else 1]
    return node.known(2) and node.shape(2) in ((out,), (1, out), (1,), ()) and node.sample(2).dtype.is_floating_point


def einsum(node: Node) -> Call:
    equation = node.text("equation").replace(" ", "")
    return lambda *xs: torch.einsum(equation, *xs)


LINEAR: Table = {"Einsum": einsum, "Gemm": gemm, "MatMul": matmul}
