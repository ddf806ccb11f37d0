"""Convolutions, as `nn` modules wherever their weights are constants."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.module import parameters_of, without_initialization
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.convert.onnx_to_torch.operators.window import Window, window_of

_MODULES = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_MODULES = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class Padded(nn.Module):
    """A convolution behind a padding that is not the same on both sides, as torch's own is."""

    def __init__(self, convolution: nn.Module, padding: list[int]) -> None:
        super().__init__()
        self.convolution = convolution
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.pad(x, self.padding))


def convolve(node: Node) -> Call:
    kernel = node.shape(1)[2:]
    if len(kernel) not in _MODULES:
        raise node.refuse(f"it has {len(kernel)} spatial dimensions; 1, 2 and 3 are possible")
    window = window_of(node, kernel)
    groups = node.integer("group", 1)
    if node.known(1) and (not node.has(2) or node.known(2)):
        return _convolution(node, window, groups)
    function, pads = _FUNCTIONS[len(kernel)], window.padding()
    return lambda x, w, b=None: function(
        F.pad(x, pads), w, b, stride=window.stride, dilation=window.dilation, groups=groups
    )


def _convolution(node: Node, window: Window, groups: int) -> Any:
    weight = node.weight(1)
    bias = node.weight(2) if node.has(2) else None
    module = without_initialization(
        _MODULES[len(window.kernel)], weight.shape[1] * groups, weight.shape[0], window.kernel, window.stride,
        window.begin if window.symmetric else 0, window.dilation, groups, bias is not None,
    )  # fmt: skip
    module.weight, module.bias = parameters_of(weight, bias)
    return module if window.symmetric else Padded(module, window.padding())


def transpose_convolve(node: Node) -> Call:
    kernel = node.shape(1)[2:]
    if len(kernel) not in _TRANSPOSED:
        raise node.refuse(f"it has {len(kernel)} spatial dimensions; 1, 2 and 3 are possible")
    place = _placed(node, kernel)
    if node.known(1) and (not node.has(2) or node.known(2)):
        return _transposed(node, kernel, place)
    function, stride, dilation = _TRANSPOSED[len(kernel)], place.stride, place.dilation
    groups = node.integer("group", 1)

    def call(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return place.cut(function(x, weight, None, stride, groups=groups, dilation=dilation), bias)

    return call


class Place:
    """Which part of the full transposed convolution is the output. begin: cut off; sizes: of the output.

    torch's `output_padding` says the same for some of the cases; runtimes differ on it, and none differs on a slice.
    """

    def __init__(
        self, stride: tuple[int, ...], dilation: tuple[int, ...], begin: tuple[int, ...], sizes: tuple[int, ...]
    ):
        self.stride, self.dilation, self.begin, self.sizes = stride, dilation, begin, sizes

    def cut(self, full: Tensor, bias: Tensor | None) -> Tensor:
        missing = [max(b + n - m, 0) for b, n, m in zip(self.begin, self.sizes, full.shape[2:], strict=True)]
        if any(missing):
            full = F.pad(full, [n for m in missing[::-1] for n in (0, m)])
        for axis, (begin, size) in enumerate(zip(self.begin, self.sizes, strict=True), start=2):
            if (begin, size) != (0, full.shape[axis]):
                full = full.narrow(axis, begin, size)
        return full if bias is None else full + bias.reshape(-1, *(1,) * len(self.sizes))


class Cut(nn.Module):
    """A transposed convolution of which a part is the output."""

    def __init__(self, convolution: Any, place: Place, bias: Any) -> None:
        super().__init__()
        self.convolution, self.place, self.bias = convolution, place, bias

    def forward(self, x: Tensor) -> Tensor:
        return self.place.cut(self.convolution(x), self.bias)


def _transposed(node: Node, kernel: tuple[int, ...], place: Place) -> Any:
    weight = node.weight(1)
    bias = node.weight(2) if node.has(2) else None
    groups, sizes = node.integer("group", 1), node.shape(0)[2:]
    whole = [
        (n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(sizes, kernel, place.stride, place.dilation, strict=True)
    ]
    axes = list(zip(place.begin, place.sizes, whole, sizes, place.stride, strict=True))
    symmetric = all(2 * b + n == w for b, n, w, _, _ in axes)
    # LiteRT's transposed convolution is TensorFlow's: all of it, or as much as the stride times the input.
    symmetric &= all(n == w for _, n, w, _, _ in axes) or all(n == size * s for _, n, _, size, s in axes)
    module = without_initialization(
        _TRANSPOSED_MODULES[len(kernel)], weight.shape[0], weight.shape[1] * groups, kernel, place.stride,
        place.begin if symmetric else 0, 0, groups, symmetric and bias is not None, place.dilation,
    )  # fmt: skip
    (module.weight,) = parameters_of(weight)
    (parameter,) = parameters_of(bias)
    if not symmetric:
        return Cut(module, place, parameter)
    module.bias = parameter
    return module


def _placed(node: Node, kernel: tuple[int, ...]) -> Place:
    count, sizes = len(kernel), node.shape(0)[2:]
    stride = node.integers("strides") or (1,) * count
    dilation = node.integers("dilations") or (1,) * count
    more = node.integers("output_padding") or (0,) * count
    auto, wanted = node.text("auto_pad", "NOTSET"), node.integers("output_shape")
    axes = list(zip(sizes, kernel, stride, dilation, more, strict=True))
    whole = [(n - 1) * s + d * (k - 1) + 1 + m for n, k, s, d, m in axes]
    if wanted is not None or auto.startswith("SAME"):
        shape = wanted[-count:] if wanted is not None else tuple(n * s for n, s in zip(sizes, stride, strict=True))
        totals = [max(w - n, 0) for w, n in zip(whole, shape, strict=True)]
        begin = tuple(t // 2 if auto == "SAME_UPPER" else t - t // 2 for t in totals)
        return Place(stride, dilation, begin, shape)
    pads = (0,) * (2 * count) if auto == "VALID" else node.integers("pads") or (0,) * (2 * count)
    begin, end = pads[:count], pads[count:]
    return Place(stride, dilation, begin, tuple(w - b - e for w, b, e in zip(whole, begin, end, strict=True)))


CONVOLUTIONS: Table = {"Conv": convolve, "ConvTranspose": transpose_convolve}
