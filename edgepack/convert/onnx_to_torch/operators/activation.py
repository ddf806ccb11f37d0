"""Activations."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.module import parameters_of, without_initialization
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.operators.elementwise import plain


def celu(node: Node) -> Call:
    alpha = node.real("alpha", 1.0)
    return lambda x: F.celu(x, alpha)


def elu(node: Node) -> Call:
    alpha = node.real("alpha", 1.0)
    return lambda x: F.elu(x, alpha)


def gelu(node: Node) -> Call:
    form = node.text("approximate", "none")
    return lambda x: F.gelu(x, approximate=form)


def hard_sigmoid(node: Node) -> Call:
    alpha, beta = node.real("alpha", 0.2), node.real("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
        return lambda x: F.relu6(x + 3.0) * (1 / 6)
    return lambda x: torch.clamp(x * alpha + beta, 0.0, 1.0)


def hard_swish(node: Node) -> Call:
    return F.hardswish


def leaky_relu(node: Node) -> Call:
    slope = node.real("alpha", 0.01)
    return lambda x: F.leaky_relu(x, slope)


def prelu(node: Node) -> Call:
    if node.known(1) and _per_channel(node.shape(0), node.shape(1)):
        weight = node.weight(1).reshape(-1)
        module = without_initialization(nn.PReLU, weight.numel())
        (module.weight,) = parameters_of(weight)
        return module
    # As two rectifiers instead of a selection: runtimes have both, and it is the same to the last bit.
    return lambda x, slope: F.relu(x) - slope * F.relu(-x)


def _per_channel(shape: tuple[int, ...], slope: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and len(slope) == len(shape) - 1 and slope[0] == shape[1] and math.prod(slope) == shape[1]


def selu(node: Node) -> Call:
    alpha, gamma = node.real("alpha", 1.6732632423543772), node.real("gamma", 1.0507009873554805)
    return lambda x: F.elu(x, alpha) * gamma


def shrink(node: Node) -> Call:
    bias, bound = node.real("bias", 0.0), node.real("lambd", 0.5)
    return lambda x: torch.where(x > bound, x - bias, torch.where(x < -bound, x + bias, torch.zeros_like(x)))


def softmax(node: Node) -> Call:
    return _along(node, F.softmax)


def log_softmax(node: Node) -> Call:
    return _along(node, F.log_softmax)


def hardmax(node: Node) -> Call:
    return _along(node, _one_at_the_largest)


def _one_at_the_largest(x: Tensor, dim: int) -> Tensor:
    places = torch.arange(x.shape[dim], device=x.device).reshape(
        [-1 if a == dim % x.dim() else 1 for a in range(x.dim())]
    )
    return (places == torch.argmax(x, dim=dim, keepdim=True)).to(x.dtype)


def _along(node: Node, call: Call) -> Call:
    """Until opset 13 these took their input as a matrix, cut before `axis`; from then on they go along `axis` alone."""
    if node.opset >= 13:
        axis = node.axis(node.integer("axis", -1))
        return lambda x: call(x, dim=axis)
    axis = node.axis(node.integer("axis", 1))
    if axis == node.rank(0) - 1:
        return lambda x: call(x, dim=-1)
    return lambda x: call(x.flatten(axis), dim=-1).reshape(x.shape)


def softplus(x: Tensor) -> Tensor:
    # In this form nothing overflows and nothing has to be selected.
    return torch.relu(x) + torch.log1p(torch.exp(-x.abs()))


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(softplus(x))


def swish(node: Node) -> Call:
    alpha = node.real("alpha", 1.0)
    return lambda x: F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


def thresholded_relu(node: Node) -> Call:
    bound = node.real("alpha", 1.0)
    return lambda x: torch.where(x > bound, x, torch.zeros_like(x))


ACTIVATIONS: Table = {
    "Celu": celu,
    "Elu": elu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "Hardmax": hardmax,
    "LeakyRelu": leaky_relu,
    "LogSoftmax": log_softmax,
    "Mish": plain(mish),
    "PRelu": prelu,
    "Relu": plain(torch.relu),
    "Selu": selu,
    "Shrink": shrink,
    "Sigmoid": plain(torch.sigmoid),
    "Softmax": softmax,
    "Softplus": plain(softplus),
    "Softsign": plain(F.softsign),
    "Swish": swish,
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": thresholded_relu,
}
