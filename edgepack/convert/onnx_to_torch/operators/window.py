"""Where a sliding window lies: ONNX's paddings, explicit or `auto_pad`, and the sizes that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgepack.convert.onnx_to_torch.node import Node


@dataclass(frozen=True)
class Window:
    """Along each spatial axis. begin, end: padding; extra: what a rounded-up output size reaches beyond the padding."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]
    extra: tuple[int, ...]

    @property
    def symmetric(self) -> bool:
        return self.begin == self.end and not any(self.extra)

    def padding(self, extra: bool = True) -> list[int]:
        """As `torch.nn.functional.pad` wants it, the last axis first."""
        beyond = self.extra if extra else (0,) * len(self.extra)
        return [n for b, e, x in zip(self.begin[::-1], self.end[::-1], beyond[::-1], strict=True) for n in (b, e + x)]


def window_of(node: Node, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pool over input 0 `[n, c, *spatial]`."""
    count = len(kernel)
    sizes = node.shape(0)[2:]
    stride = node.integers("strides") or (1,) * count
    dilation = node.integers("dilations") or (1,) * count
    begin, end = _padding(node, sizes, kernel, stride, dilation)
    reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    extra = (0,) * count
    if node.flag("ceil_mode"):
        axes = zip(sizes, reach, stride, begin, end, strict=True)
        extra = tuple(_beyond(size, r, s, b, e) for size, r, s, b, e in axes)
    return Window(kernel, stride, dilation, begin, end, extra)


def _padding(
    node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    count, auto = len(kernel), node.text("auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = node.integers("pads") or (0,) * (2 * count)
        return pads[:count], pads[count:]
    if auto == "VALID":
        return (0,) * count, (0,) * count
    totals = [
        max((math.ceil(size / s) - 1) * s + d * (k - 1) + 1 - size, 0)
        for size, k, s, d in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return (small, large) if auto == "SAME_UPPER" else (large, small)


def _beyond(size: int, reach: int, stride: int, begin: int, end: int) -> int:
    count = math.ceil((size + begin + end - reach) / stride) + 1
    if (count - 1) * stride >= size + begin:
        count -= 1  # a window that would start in the padding at the end is none
    return max((count - 1) * stride + reach - (size + begin + end), 0)
