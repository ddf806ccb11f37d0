"""Quantization while training: weights and inputs of layers are rounded as the quantized file will round them.

Gradients pass through the rounding where a value lies within its range (straight-through, Jacob et al. 2018, arXiv
1712.05877). Weights are rounded per output channel, so a batch norm after the layer, which scales whole channels, need not
be folded first: it scales a channel's step along with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgepack.compress import layers
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.recipe import Rehearse

_NAME = "edgepack_range"
_LEAST = 32
_MOVES = 0.05
_SETTLED = 0.6
"""After this share of the epochs, ranges and batch norms stay as they are, and the weights settle on them."""


@dataclass(frozen=True)
class _Bits:
    """activations: None where they stay in float"""

    weights: int
    activations: int | None


def _bits(precision: Precision) -> _Bits:
    match precision:
        case "w8a8":
            return _Bits(8, 8)
        case "w8a16":
            return _Bits(8, 16)
        case "w4":
            return _Bits(4, None)
        case _:
            raise AssertionError(f"{precision} is not rehearsed")


class Emulation:
    """What is rounded in a module that trains; `is_settled` once ranges and batch norms move no more."""

    def __init__(self, ranges: list[Any]) -> None:
        self.is_settled = False
        self._ranges = ranges

    def settle(self, done: float) -> None:
        """Freeze ranges and batch norms once `done` (0..1) of the training is over."""
        self.is_settled = done >= _SETTLED
        for part in self._ranges:
            part.frozen = self.is_settled


@contextmanager
def emulating(module: Any, step: Rehearse) -> Iterator[Emulation]:
    """Round the weights and inputs of every convolution and linear layer of `module` until the block ends.

    Afterwards the module is as it was, with the weights that it learned with: rounded, on the steps that a quantizer of whole
    channels finds again. So what corrections make a file answer like is the net that was trained, not one that never ran.
    Raises InexpressibleError where no layer has weights.
    """
    from torch.nn.utils import parametrize

    found = layers.weighted(module)
    if not found:
        raise InexpressibleError(
            "quantization-aware training: the module has no convolution or linear layer",
            advice="set [build] qat = false",
        )
    bits = _bits(step.precision)
    ranges, handles = [], []
    for layer in found.values():
        axis = 1 if getattr(layer, "transposed", False) else 0
        own = max(bits.weights, 8) if _is_thin(layer, axis) else bits.weights
        parametrize.register_parametrization(layer, "weight", _rounded_weights(own, axis), unsafe=True)
        if bits.activations is not None:
            ranges.append(_range(bits.activations))
            layer.add_module(_NAME, ranges[-1])  # of the module's state, so that a checkpoint holds it
            handles.append(layer.register_forward_pre_hook(_rounding(ranges[-1])))
    emulation = Emulation(ranges)
    handles.append(module.register_forward_pre_hook(_freezing(emulation)))
    try:
        yield emulation
    finally:
        for handle in handles:
            handle.remove()
        for layer in found.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
            if hasattr(layer, _NAME):
                delattr(layer, _NAME)


def _is_thin(layer: Any, axis: int) -> bool:
    """Whether it is a depthwise layer, with so few weights a channel that both formats keep them in 8 bits."""
    return bool(getattr(layer, "groups", 1) > 1 and layer.weight.numel() < _LEAST * layer.weight.shape[axis])


def _freezing(emulation: Emulation) -> Any:
    import torch

    def freeze(module: Any, _inputs: Any) -> None:
        if module.training and emulation.is_settled:
            for layer in module.modules():
                if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
                    layer.eval()

    return freeze


def _rounding(part: Any) -> Any:
    return lambda _layer, inputs: (part(inputs[0]), *inputs[1:])


def _rounded_weights(bits: int, axis: int) -> Any:
    """A parametrization: symmetric steps per channel along `axis`, the largest weight the largest integer."""
    import torch

    levels = 2 ** (bits - 1) - 1

    class Rounded(torch.nn.Module):
        def forward(self, weights: Any) -> Any:
            others = [other for other in range(weights.ndim) if other != axis]
            steps = (weights.detach().abs().amax(others) / levels).clamp_min(torch.finfo(torch.float32).tiny * 2**24)
            zeros = torch.zeros_like(steps, dtype=torch.int32)
            return torch.fake_quantize_per_channel_affine(weights, steps, zeros, axis, -levels, levels)

    return Rounded()


def _range(bits: int) -> Any:
    """A module that rounds what passes over one asymmetric range, the moving average of the batches', made to hold zero."""
    import torch

    levels = 2**bits - 1

    class Range(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.frozen = False
            self.register_buffer("low", torch.tensor(0.0))
            self.register_buffer("high", torch.tensor(0.0))

        def forward(self, values: Any) -> Any:
            if not values.is_floating_point() or not values.numel():
                return values
            if self.training and not self.frozen:
                self._follow(values.detach())
            if not bool(self.high > self.low):
                return values
            step = (self.high - self.low) / levels
            zero = torch.clamp((-self.low / step).round(), 0, levels).to(torch.int32)
            return torch.fake_quantize_per_tensor_affine(values, step, zero, 0, levels)

        def _follow(self, values: Any) -> None:
            low, high = values.amin().clamp_max(0), values.amax().clamp_min(0)
            if bool(self.high > self.low):
                self.low += _MOVES * (low - self.low)
                self.high += _MOVES * (high - self.high)
            else:
                self.low.copy_(low)
                self.high.copy_(high)

    return Range()
