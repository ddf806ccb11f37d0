"""An operator as counting sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["convolution", "transposed", "matrix", "recurrent"]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Op:
    """Something that multiplies. input, output: shapes of its data; taps: of a convolution's window

    channels: that one output number sums over (convolution, matrix), that one input number is spread to (transposed), or all
    products of a recurrent cell (recurrent); groups: of a convolution
    """

    kind: Kind
    output: Shape
    input: Shape = ()
    taps: Shape = ()
    channels: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Graph:
    ops: tuple[Op, ...]
    parameters: int
