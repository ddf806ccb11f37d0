"""What a quantizer did, operator by operator: the libraries leave what they do not support in float and do not say so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgepack.names import FileFormat, Precision
from edgepack.variant import LayerReport

_NAME = 64


@dataclass(frozen=True)
class Operator:
    """kind: the format's name of the operation (`CONV_2D`, `Conv`); name: of the node, or of its first output (TFLite)"""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def short(name: str) -> str:
    """The end of a long name: exporters of TFLite spell out the way through every module."""
    parts = name.split(";")  # the last ones may be numbers only
    text = next((part for part in reversed(parts) if part.strip("0123456789#")), name)
    return text.rsplit("/", 1)[-1][-_NAME:]


@dataclass(frozen=True)
class Quantized:
    """One quantized file.

    quantized: operators that compute on integers (`w8a8`, `w8a16`), or whose weights are stored in the precision (the others)
    left: operators that could have been and still compute, or store their weights, in float; in the graph's order
    choices: what was tried and kept, in words; layers: what the static precisions did to each
    """

    format: FileFormat
    precision: Precision
    quantized: tuple[Operator, ...]
    left: tuple[Operator, ...]
    choices: tuple[str, ...] = ()
    layers: tuple[LayerReport, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """What a report says of it: `12 operators in w8a8`, `3 left in float: ARG_MAX, SOFTMAX (2)`."""
        done = f"{len(self.quantized)} operators in {self.precision}"
        if not self.left:
            return (done, *self.choices)
        counts = Counter(operator.kind for operator in self.left)
        kinds = ", ".join(kind if count == 1 else f"{kind} ({count})" for kind, count in sorted(counts.items()))
        return done, f"{len(self.left)} left in float: {kinds}", *self.choices
