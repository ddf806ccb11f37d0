"""Norms, as `nn` modules wherever their weights are constants."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.module import parameters_of, without_initialization
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor

_BATCH_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def batch_norm(node: Node) -> Call:
    if node.flag("training_mode") or any(node.wants(i) for i in range(1, 5)):
        raise node.refuse("it is in training mode", "export the model for inference (model.eval())")
    epsilon = node.real("epsilon", 1e-5)
    if node.rank(0) in _BATCH_NORMS and all(node.known(i) for i in range(1, 5)):
        module = without_initialization(
            _BATCH_NORMS[node.rank(0)], node.shape(1)[0], epsilon, 1 - node.real("momentum", 0.9)
        )
        module.weight, module.bias = parameters_of(node.weight(1), node.weight(2))
        module.running_mean, module.running_var = node.weight(3), node.weight(4)
        module.num_batches_tracked.zero_()
        return module
    return lambda x, w, b, mean, var: F.batch_norm(x, mean, var, w, b, training=False, eps=epsilon)


def instance_norm(node: Node) -> Call:
    epsilon, axes = node.real("epsilon", 1e-5), tuple(range(2, node.rank(0)))

    def call(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * len(axes))
        return _standardized(x, axes, epsilon) * scale.reshape(shape) + bias.reshape(shape)

    return call


def _standardized(x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt((centred * centred).mean(axes, keepdim=True) + epsilon)


def layer_norm(node: Node) -> Call:
    axis, epsilon = node.axis(node.integer("axis", -1)), node.real("epsilon", 1e-5)
    shape = node.shape(0)[axis:]
    if node.wants(1) or node.wants(2):
        return _with_statistics(tuple(range(axis, node.rank(0))), epsilon)
    if node.known(1) and node.shape(1) == shape and (not node.has(2) or (node.known(2) and node.shape(2) == shape)):
        module: Any = without_initialization(nn.LayerNorm, shape, epsilon)
        module.weight, module.bias = parameters_of(node.weight(1), node.weight(2) if node.has(2) else None)
        return module

    def call(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        scaled = F.layer_norm(x, shape, eps=epsilon) * scale
        return scaled if bias is None else scaled + bias

    return call


def _with_statistics(axes: tuple[int, ...], epsilon: float) -> Call:
    """A layer norm that also returns the mean and the inverse of the deviation."""

    def call(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(axes, keepdim=True)
        inverse = torch.rsqrt(((x - mean) ** 2).mean(axes, keepdim=True) + epsilon)
        scaled = (x - mean) * inverse * scale
        return scaled if bias is None else scaled + bias, mean, inverse

    return call


def group_norm(node: Node) -> Call:
    groups, epsilon = node.integer("num_groups"), node.real("epsilon", 1e-5)
    channels = node.shape(0)[1]
    if node.known(1) and node.known(2) and node.shape(1) in ((channels,), (groups,)):
        repeats = channels // node.shape(1)[0]  # until opset 21 the weights are a group's, then a channel's
        module: Any = without_initialization(nn.GroupNorm, groups, channels, epsilon)
        module.weight, module.bias = parameters_of(*(node.weight(i).repeat_interleave(repeats) for i in (1, 2)))
        return module

    def call(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        repeats = channels // scale.shape[0]
        return F.group_norm(x, groups, scale.repeat_interleave(repeats), bias.repeat_interleave(repeats), epsilon)

    return call


def rms_norm(node: Node) -> Call:
    axis, epsilon = node.axis(node.integer("axis", -1)), node.real("epsilon", 1e-5)
    axes = tuple(range(axis, node.rank(0)))
    return lambda x, scale: x * torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon) * scale


def lp_norm(node: Node) -> Call:
    axis, p = node.axis(node.integer("axis", -1)), node.integer("p", 2)

    def call(x: Tensor) -> Tensor:
        length = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
        return torch.where(length == 0, torch.zeros_like(x), x / length)

    return call


def local_response_norm(node: Node) -> Call:
    alpha, beta, bias = node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0)
    size = node.integer("size")
    before, around = (size - 1) // 2, [0] * (2 * (node.rank(0) - 2))

    def call(x: Tensor) -> Tensor:
        squares = F.pad(x * x, [*around, before, size - 1 - before])
        total = sum(squares.narrow(1, shift, x.shape[1]) for shift in range(size))
        return x / (bias + total * (alpha / size)) ** beta

    return call


NORMALIZATIONS: Table = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response_norm,
    "LayerNormalization": layer_norm,
    "LpNormalization": lp_norm,
    "RMSNormalization": rms_norm,
}
