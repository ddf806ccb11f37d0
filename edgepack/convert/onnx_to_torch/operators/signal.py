"""Fourier transforms of fixed length, as products with constant matrices: no runtime on a board has them otherwise."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor
from edgepack.samples import Array


def _waves(length: int, bins: int, sign: float = -1.0) -> tuple[Array, Array]:
    """The real and imaginary part of exp(sign·2πi·kn/length), `[length, bins]`."""
    turns = np.outer(np.arange(length), np.arange(bins)) % length
    angle = sign * 2 * np.pi * turns / length
    return np.cos(angle), np.sin(angle)


class Spectrum(nn.Module):
    """Frames of a signal `[batch, n]` or `[batch, n, 1]` to `[batch, frames, bins, 2]`, as one strided convolution."""

    def __init__(self, kernel: Array, step: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("kernel", torch.from_numpy(kernel).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(x.shape[0], 1, x.shape[1])
        found = F.conv1d(x, self.get_buffer("kernel"), stride=self.step)
        return found.reshape(x.shape[0], 2, -1, found.shape[-1]).permute(0, 3, 2, 1)


def short_time_transform(node: Node) -> Call:
    if node.rank(0) == 3 and node.shape(0)[2] == 2:
        raise node.refuse("its signal is complex")
    step = int(node.scalar(1))
    window = node.constant(2).astype(np.float64) if node.has(2) else None
    length = int(node.scalar(3)) if node.has(3) else len(window) if window is not None else 0
    bins = length // 2 + 1 if node.flag("onesided", True) else length
    shape = np.ones(length) if window is None else window
    kernel = np.concatenate([(wave * shape[:, None]).T for wave in _waves(length, bins)])
    return Spectrum(kernel[:, None, :], step, node.sample(0).dtype)


class Transform(nn.Module):
    """A transform along one axis of a real `[…, 1]` or complex `[…, 2]` signal to `[…, 2]`."""

    def __init__(self, axis: int, length: int, cosine: Array, sine: Array, dtype: torch.dtype) -> None:
        super().__init__()
        self.axis, self.length = axis, length
        self.register_buffer("cosine", torch.from_numpy(cosine).to(dtype))
        self.register_buffer("sine", torch.from_numpy(sine).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(self.axis, -1)
        x = F.pad(x, [0, self.length - x.shape[-1]])
        cosine, sine = self.get_buffer("cosine"), self.get_buffer("sine")
        real = x[..., 0, :]
        parts = (real @ cosine, real @ sine)
        if x.shape[-2] == 2:
            imaginary = x[..., 1, :]
            parts = (parts[0] - imaginary @ sine, parts[1] + imaginary @ cosine)
        return torch.stack(parts, -2).movedim(-1, self.axis)


def transform(node: Node) -> Call:
    default = 1 if node.opset < 20 else -2
    axis = node.axis(int(node.scalar(2)) if node.has(2) else node.integer("axis", default))
    length = int(node.scalar(1)) if node.has(1) else node.shape(0)[axis]
    inverse, onesided = node.flag("inverse"), node.flag("onesided")
    if inverse and onesided:
        raise node.refuse("it is inverse and one-sided at once")
    cosine, sine = _waves(length, length // 2 + 1 if onesided else length, 1.0 if inverse else -1.0)
    share = 1 / length if inverse else 1.0
    return Transform(axis, length, cosine * share, sine * share, node.sample(0).dtype)


SIGNALS: Table = {"DFT": transform, "STFT": short_time_transform}
