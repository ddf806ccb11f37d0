"""Weights rounded to what a layer answers, not each to its nearest integer: the error of one is made up for by the others.

As in Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers" (2022), algorithm 1,
for all channels at once. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.samples import Array

Floats = NDArray[np.float32]

_POSITIONS = 4096
"""Places of a layer's input that are looked at, over all samples."""
_DAMPING = 0.01
_LEAST_POSITIONS = 2
"""Places a weight: with fewer, weights are fitted to the chance of a few samples."""


@dataclass(frozen=True)
class Rows:
    """A quantized layer's weights as rows of products.

    weights: float `[groups, outputs, taps]`; steps: of each weight, or one a row `[groups, outputs, taps or 1]`; inputs: what
    the taps meet in the quantized model `[groups, places, taps]`; limit: the largest integer
    """

    weights: Floats
    steps: Floats
    inputs: Floats
    limit: int = 127

    @property
    def enough(self) -> bool:
        _, places, taps = self.inputs.shape
        return bool(places >= _LEAST_POSITIONS * taps > 2)


def rounded(rows: Rows) -> NDArray[np.int8]:
    """Integers `[groups, outputs, taps]` within ±`rows.limit` whose answers are near the weights' own on these inputs."""
    gram = np.matmul(rows.inputs.transpose(0, 2, 1), rows.inputs).astype(np.float64) / max(rows.inputs.shape[1], 1)
    taps = gram.shape[-1]
    diagonal = np.einsum("gii->gi", gram)
    level = np.maximum(diagonal.mean(axis=1), 1e-12)
    gram = gram + (level * _DAMPING)[:, None, None] * np.eye(taps)
    # Upper factor of the inverse: row i says how the taps after i make up for the error of tap i.
    upper = np.linalg.cholesky(np.linalg.inv(gram)).transpose(0, 2, 1).astype(np.float32)
    left = rows.weights.astype(np.float32)
    steps = np.broadcast_to(rows.steps, left.shape)
    integers = np.zeros(left.shape, np.int8)
    for tap in range(taps):
        nearest = np.clip(np.rint(left[..., tap] / steps[..., tap]), -rows.limit, rows.limit)
        integers[..., tap] = nearest
        error = (left[..., tap] - nearest * steps[..., tap]) / upper[:, tap, tap][:, None]
        left[..., tap + 1 :] -= error[..., None] * upper[:, None, tap, tap + 1 :]
    return integers


def windows(values: list[Array], kernel: tuple[int, int], groups: int) -> Floats:
    """What the taps of a convolution meet: `[groups, places, channels of a group × height × width]`.

    values: the layer's input, one `[channels, height, width]` a sample. Places where the kernel would reach over the edge are
    left out, and the others thinned out evenly.
    """
    height, width = kernel
    per_sample = max(_POSITIONS // len(values), 1)
    found = []
    for image in values:
        view = np.lib.stride_tricks.sliding_window_view(image, (height, width), axis=(1, 2))
        places = view.shape[1] * view.shape[2]
        index = np.unique(np.linspace(0, places - 1, min(per_sample, places)).round().astype(int))
        rows, columns = np.divmod(index, view.shape[2])
        found.append(view[:, rows, columns])
    taken = np.concatenate(found, axis=1)  # [channels, places, height, width]
    channels = taken.shape[0]
    grouped = taken.reshape(groups, channels // groups, -1, height * width).transpose(0, 2, 1, 3)
    taps: Floats = grouped.reshape(groups, grouped.shape[1], -1).astype(np.float32)
    return taps
