"""Reductions over axes, and what finds a place along one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from edgepack.convert.onnx_to_torch.node import Call, Node, Operator, Table, Tensor

Reduce = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reduction(since: int, reduce: Reduce) -> Operator:
    """A reduction whose axes are an input from opset `since` on, an attribute before."""

    def operator(node: Node) -> Call:
        axes = node.integers("axes")
        if node.opset >= since:
            axes = node.constants(1) if node.has(1) else None
        keep = node.flag("keepdims", True)
        if not axes and node.flag("noop_with_empty_axes"):
            return lambda x, *_: x
        found = tuple(sorted({node.axis(a) for a in axes})) if axes else tuple(range(node.rank(0)))
        if not found:
            return lambda x, *_: reduce(x.reshape(1), (0,), False).reshape(())
        if found == (2, 3) and node.rank(0) == 4 and not keep:
            # With its axes kept a picture stays a picture to the converter's layout pass: no transposition before it.
            return lambda x, *_: reduce(x, found, True).flatten(1)
        return lambda x, *_: reduce(x, found, keep)

    return operator


def _sum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return x.mean(axes, keepdim=keep)
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return torch.div(_sum(x, axes, keep), count, rounding_mode="trunc")


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in reversed(axes):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _maximum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.amax(axes, keepdim=keep)


def _minimum(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.amin(axes, keepdim=keep)


def _log_sum_exp(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keepdim=keep)


def extreme(find: Call) -> Operator:
    def operator(node: Node) -> Call:
        axis, keep = node.axis(node.integer("axis")), node.flag("keepdims", True)
        if not node.flag("select_last_index"):
            return lambda x: find(x, dim=axis, keepdim=keep)
        last = node.shape(0)[axis] - 1
        return lambda x: last - find(x.flip(axis), dim=axis, keepdim=keep)

    return operator


def cumulative_sum(node: Node) -> Call:
    axis = node.axis(int(node.scalar(1)))
    exclusive, reverse = node.flag("exclusive"), node.flag("reverse")

    def call(x: Tensor, _: None) -> Tensor:
        turned = x.flip(axis) if reverse else x
        total = turned.cumsum(axis, dtype=x.dtype)
        total = total - turned if exclusive else total
        return total.flip(axis) if reverse else total

    return call


def top_k(node: Node) -> Call:
    count = int(node.scalar(1)) if node.opset >= 10 else node.integer("k")
    axis = node.axis(node.integer("axis", -1))
    largest = node.flag("largest", True)

    def call(x: Tensor, *_: None) -> tuple[Tensor, ...]:
        # Of equals the first comes first: so does LiteRT's, and torch.topk leaves it open. LiteRT has no sort.
        if torch.compiler.is_exporting():
            return tuple(torch.topk(x, count, dim=axis, largest=largest))
        values, places = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), places.narrow(axis, 0, count)

    return call


REDUCTIONS: Table = {
    "ArgMax": extreme(torch.argmax),
    "ArgMin": extreme(torch.argmin),
    "CumSum": cumulative_sum,
    "ReduceL1": reduction(18, lambda x, axes, keep: _sum(x.abs(), axes, keep)),
    "ReduceL2": reduction(18, lambda x, axes, keep: _sum(x * x, axes, keep).sqrt()),
    "ReduceLogSum": reduction(18, lambda x, axes, keep: _sum(x, axes, keep).log()),
    "ReduceLogSumExp": reduction(18, _log_sum_exp),
    "ReduceMax": reduction(18, _maximum),
    "ReduceMean": reduction(18, _mean),
    "ReduceMin": reduction(18, _minimum),
    "ReduceProd": reduction(18, _product),
    "ReduceSum": reduction(13, _sum),
    "ReduceSumSquare": reduction(18, lambda x, axes, keep: _sum(x * x, axes, keep)),
    "TopK": top_k,
}
