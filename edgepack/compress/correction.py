"""Sequential bias correction: layer by layer, each with the layers before it already quantized and corrected.

Quantized weights and clipped ranges move the mean of a channel; its bias takes that back. As in Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with means from samples. One walk through
the float and the quantized model side by side does all layers: each operator runs once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgepack.compress.operators import Operator
from edgepack.compress.rounding import Rows, rounded
from edgepack.samples import Array

Channels = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """operator: as the float file names it; correctable: whether it has a bias of its own that may move

    after: the names of the layers that its input comes from, directly or through other operators
    """

    operator: Operator
    correctable: bool
    after: tuple[str, ...] = ()


class Walk(Protocol):
    """A float file and its quantized form, run side by side over a few samples, from layer to layer."""

    @property
    def layers(self) -> Sequence[Layer]:
        """The layers that are quantized, in the order in which they run."""

    def rows(self, layer: Layer) -> Rows | None:
        """The layer's weights and what they meet, before it was reached; None where it is of a kind that is not rounded anew."""

    def replace(self, layer: Layer, integers: NDArray[np.int8]) -> None:
        """Give the layer other weights, as `Rows` has them, before it is reached."""

    def reach(self, layer: Layer) -> Iterable[tuple[Array, Array]]:
        """The layer's outputs before its activation, a pair a sample: the float file's, the quantized one's; channels last."""

    def shift(self, layer: Layer, change: Channels) -> None:
        """Add to each channel of the layer's bias in the quantized file, and to the output from which the walk goes on."""


@dataclass(frozen=True)
class LayerNoise:
    """How far a quantized layer's output is from the float file's, with all layers before it quantized too.

    sqnr_db: signal to noise in dB; cosine: of the angle between both; shift: how far the bias was moved, as a share of the
    output's root mean square; after: the layers that its input comes from
    """

    layer: Operator
    sqnr_db: float
    cosine: float
    shift: float
    after: tuple[str, ...] = ()


def walk_through(walk: Walk, *, rounds: bool) -> tuple[LayerNoise, ...]:
    """Visit every layer, round its weights anew where wanted, and move its bias by the mean error of each channel."""
    return tuple(_visit(walk, layer, rounds) for layer in walk.layers)


def _visit(walk: Walk, layer: Layer, rounds: bool) -> LayerNoise:
    rows = walk.rows(layer) if rounds else None
    if rows is not None and rows.enough:
        walk.replace(layer, rounded(rows))
    corrects = layer.correctable
    errors: list[Channels] = []
    signal = noise = power = product = 0.0
    count = 0
    for expected, actual in walk.reach(layer):
        wanted = expected.reshape(-1, expected.shape[-1])
        given = actual.reshape(wanted.shape)
        difference = wanted - given
        errors.append(difference.mean(axis=0, dtype=np.float64))
        signal += _square(wanted)
        noise += _square(difference)
        power += _square(given)
        product += float(np.vdot(wanted, given))
        count += wanted.size
    change = steady_mean(np.stack(errors))
    if corrects:
        walk.shift(layer, change)
    return LayerNoise(
        layer.operator,
        sqnr_db=decibels(signal, noise),
        cosine=float(product / max(np.sqrt(signal * power), 1e-30)) if signal or power else 1.0,
        shift=float(np.sqrt(np.mean(change**2)) / max(np.sqrt(signal / count), 1e-30)) if corrects and count else 0.0,
        after=layer.after,
    )


def nearest(
    inputs: Iterable[str], sources: Mapping[str, tuple[str, tuple[str, ...]]], layers: Set[str]
) -> tuple[str, ...]:
    """The layers that tensors come from. sources: of each computed tensor the name of its operator and what that takes"""
    found: dict[str, None] = {}
    seen: set[str] = set()
    pending = list(inputs)
    while pending:
        tensor = pending.pop()
        if tensor in seen or tensor not in sources:
            continue
        seen.add(tensor)
        name, taken = sources[tensor]
        if name in layers:
            found[name] = None
        else:
            pending.extend(taken)
    return tuple(sorted(found))


def steady_mean(errors: Channels) -> Channels:
    """The mean over samples `[samples, channels]`, drawn towards zero where it is no larger than its own uncertainty.

    The positive part of the shrinkage factor 1 − s² / mean² (James and Stein 1961), s the standard error of the mean.
    """
    mean: Channels = errors.mean(axis=0)
    if len(errors) < 2:
        return mean
    variance = errors.var(axis=0, ddof=1) / len(errors)
    kept = np.clip(1 - variance / np.maximum(mean**2, 1e-30), 0.0, 1.0)
    result: Channels = mean * kept
    return result


def decibels(signal: float, noise: float) -> float:
    """Signal to noise from sums of squares, at most 200 dB."""
    if signal <= 0:
        return 200.0 if noise <= 0 else -200.0
    return float(np.clip(10 * np.log10(signal / max(noise, 1e-30 * signal)), -200.0, 200.0))


def _square(values: Array) -> float:
    return float(np.vdot(values, values))
