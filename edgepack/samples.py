"""Samples: arrays with the sample axis first, one array an input, and labels where there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.digest import Digest

Array = NDArray[Any]
Arrays = tuple[Array, ...]
"""One array for each input or output, in the signature's order."""

Run = Callable[[Arrays], Arrays]
"""A model that can be asked: one batch of inputs in the signature's shapes and dtypes in, its outputs out."""


@dataclass(frozen=True)
class Samples:
    """Samples that fit a signature.

    inputs: for each input of the signature an array `[n, *shape without its batch axis]` of the signature's dtype
    labels: `[n, …]`, or None where there are none (calibration)
    digest: of the arrays' bytes, whatever file they came from
    """

    inputs: Arrays
    labels: Array | None
    digest: Digest

    def __len__(self) -> int:
        return len(self.inputs[0])

    def batches(self, size: int = 1) -> Iterator[Arrays]:
        """Consecutive batches of `size` samples; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield tuple(array[start : start + size] for array in self.inputs)

    def take(self, count: int) -> Samples:
        """At most `count` samples, evenly spread, so that files sorted by label give every label."""
        if len(self) <= count:
            return self
        index = np.linspace(0, len(self) - 1, count).round().astype(int)
        labels = None if self.labels is None else self.labels[index]
        return Samples(tuple(array[index] for array in self.inputs), labels, self.digest)


@dataclass(frozen=True)
class TrainingData:
    """Batches to train on. `batches(epoch)` gives those of an epoch, counted from 0: each is (inputs, labels or None)."""

    batches: Callable[[int], Iterator[tuple[Arrays, Array | None]]]
    digest: Digest


def over(run: Run, samples: Samples) -> Arrays:
    """The outputs of `run` for every sample, one at a time as a board runs them, concatenated along the first axis."""
    outputs = [run(batch) for batch in samples.batches(1)]
    return tuple(np.concatenate([_row(output[i]) for output in outputs]) for i in range(len(outputs[0])))


def _row(output: Array) -> Array:
    return output if output.ndim and output.shape[0] == 1 else output[None]
