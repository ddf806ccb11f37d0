"""Operators that work on each element by itself: arithmetic, comparison, logic, casts."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from edgepack.convert.onnx_to_torch.node import Call, Node, Operator, Table, Tensor
from edgepack.convert.onnx_to_torch.tensors import DTYPES, dtype_name


def plain(call: Call) -> Operator:
    """An operator without attributes that is one torch function."""
    return lambda node: call


def folded(call: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """An operator over any number of inputs, two at a time."""
    return lambda node: lambda *xs: functools.reduce(call, xs)


def divide(node: Node) -> Call:
    if node.sample(0).dtype.is_floating_point:
        return torch.div
    return lambda x, y: torch.div(x, y, rounding_mode="trunc")


def modulo(node: Node) -> Call:
    return torch.fmod if node.flag("fmod") else torch.remainder


def absolute(node: Node) -> Call:
    if node.sample(0).dtype.is_floating_point:
        return torch.abs
    return lambda x: torch.maximum(x, -x)  # TFLite takes the absolute value of no integers


def power(node: Node) -> Call:
    dtype = node.sample(0).dtype
    if not dtype.is_floating_point and node.known(1) and node.rank(1) == 0 and node.peek(1).item() in (1, 2, 3):
        factors = int(node.scalar(1))  # nor does it raise integers to a power
        return lambda x, _: functools.reduce(torch.mul, [x] * factors)
    if node.known(1) and node.sample(1).numel() == 1 and dtype.is_floating_point and node.rank(1) <= node.rank(0):
        exponent = float(node.scalar(1))
        return lambda x, _: torch.pow(x, exponent)
    return lambda x, y: torch.pow(x, y).to(dtype)


def mean(node: Node) -> Call:
    return lambda *xs: functools.reduce(torch.add, xs) / len(xs)


def clip(node: Node) -> Call:
    if node.opset < 11:
        low, high = (node.attributes.get(name) for name in ("min", "max"))
        return lambda x: torch.clamp(x, low, high) if (low, high) != (None, None) else x
    if all(not node.has(i) or node.known(i) for i in (1, 2)):
        low, high = (node.scalar(i) if node.has(i) else None for i in (1, 2))
        return lambda x, *_: torch.clamp(x, low, high) if (low, high) != (None, None) else x
    return _clip_by_tensors


def _clip_by_tensors(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    x = x if low is None else torch.maximum(x, low)
    return x if high is None else torch.minimum(x, high)


def cast(node: Node) -> Call:
    return cast_to(node, node.integer("to"))


def cast_to(node: Node, element_type: int) -> Call:
    dtype = DTYPES.get(element_type)
    if dtype is None:
        raise node.refuse(f"torch has no {dtype_name(element_type)}")
    return lambda x, *_: x.to(dtype)


def cast_like(node: Node) -> Call:
    dtype = node.sample(1).dtype
    return lambda x, _: x.to(dtype)


def is_infinite(node: Node) -> Call:
    negative, positive = node.flag("detect_negative", True), node.flag("detect_positive", True)
    if negative and positive:
        return torch.isinf
    if not negative and not positive:
        return lambda x: torch.zeros_like(x, dtype=torch.bool)
    bound = float("inf") if positive else float("-inf")
    return lambda x: x == bound


def shift(node: Node) -> Call:
    # torch shifts no unsigned integers but the smallest: the detour through 64 bits drops what leaves the type.
    left, dtype = node.text("direction") == "LEFT", node.sample(0).dtype
    move = torch.bitwise_left_shift if left else torch.bitwise_right_shift
    return lambda x, y: move(x.to(torch.int64), y.to(torch.int64)).to(dtype)


def bitwise_not(node: Node) -> Call:
    dtype = node.sample(0).dtype
    return lambda x: torch.bitwise_not(x.to(torch.int64)).to(dtype)


def wide(call: Callable[[Tensor, Tensor], Tensor]) -> Operator:
    """Through 64 bits where torch knows the function for signed integers only."""

    def operator(node: Node) -> Call:
        dtype = node.sample(0).dtype
        if dtype in (torch.uint16, torch.uint32, torch.uint64):
            return lambda x, y: _narrow(call(x.to(torch.int64), y.to(torch.int64)), dtype)
        return call

    return operator


def _narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype is torch.bool else x.to(dtype)


ELEMENTWISE: Table = {
    "Abs": absolute,
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": wide(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "BitShift": shift,
    "BitwiseAnd": wide(torch.bitwise_and),
    "BitwiseNot": bitwise_not,
    "BitwiseOr": wide(torch.bitwise_or),
    "BitwiseXor": wide(torch.bitwise_xor),
    "Cast": cast,
    "CastLike": cast_like,
    "Ceil": plain(torch.ceil),
    "Clip": clip,
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": divide,
    "Equal": wide(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Greater": wide(torch.gt),
    "GreaterOrEqual": wide(torch.ge),
    "IsInf": is_infinite,
    "IsNaN": plain(torch.isnan),
    "Less": wide(torch.lt),
    "LessOrEqual": wide(torch.le),
    "Log": plain(torch.log),
    "Max": folded(torch.maximum),
    "Mean": mean,
    "Min": folded(torch.minimum),
    "Mod": modulo,
    "Mul": wide(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "Pow": power,
    "Reciprocal": plain(torch.reciprocal),
    "Round": plain(torch.round),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Sqrt": plain(torch.sqrt),
    "Sub": wide(torch.sub),
    "Sum": folded(torch.add),
    "Tan": plain(torch.tan),
    "Where": plain(torch.where),
    "Xor": plain(torch.ne),
}
