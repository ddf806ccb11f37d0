"""How much a model computes in one inference: what an estimate of its latency rests on."""

from __future__ import annotations

from msgspec import Struct


class Work(Struct, frozen=True, kw_only=True):
    """Of one sample: products of a weight (or of two activations) that are added up, by kind of operator.

    dense: convolutions of several taps over several channels; pointwise: of one tap; depthwise: of one channel each
    matrix: fully connected layers, products of matrices, recurrent cells; parameters: numbers that the file stores
    """

    dense: int = 0
    pointwise: int = 0
    depthwise: int = 0
    matrix: int = 0
    parameters: int = 0

    @property
    def macs(self) -> int:
        return self.dense + self.pointwise + self.depthwise + self.matrix
