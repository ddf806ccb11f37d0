"""One ONNX node as operator functions see it: typed attributes, static shapes, constants where they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgepack.errors import InexpressibleError
from edgepack.samples import Array

Tensor = Any
"""A torch tensor."""

Call = Any
"""What an operator does at run time, a `Callable[..., Tensor | tuple[Tensor, ...]]`.

A function has one argument an ONNX input, None where it is absent or was consumed as a constant; an `nn.Module` has only
those that arrive.
"""

ADVICE = "rewrite this part of the model with standard operators, or build for ONNX instead of TFLite"


@dataclass(frozen=True, eq=False)
class Value:
    """A value while its graph is being translated.

    tensor: the value itself when `known`, else one of its static shape and dtype from a run over zeros
    """

    slot: int
    name: str
    tensor: Tensor
    known: bool


@dataclass(frozen=True, eq=False)
class Node:
    """source: the model's file, for messages; opset: of the node's domain; outputs: names, empty where unused."""

    op: str
    name: str
    opset: int
    source: str
    inputs: Sequence[Value | None]
    outputs: Sequence[str]
    attributes: Mapping[str, Any]
    consumed: set[int] = field(default_factory=set)

    def integer(self, name: str, default: int = 0) -> int:
        return int(self.attributes.get(name, default))

    def real(self, name: str, default: float = 0.0) -> float:
        return float(self.attributes.get(name, default))

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.attributes.get(name, default))

    def text(self, name: str, default: str = "") -> str:
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def texts(self, name: str) -> tuple[str, ...] | None:
        values = self.attributes.get(name)
        return None if values is None else tuple(v.decode() if isinstance(v, bytes) else str(v) for v in values)

    def integers(self, name: str) -> tuple[int, ...] | None:
        values = self.attributes.get(name)
        return None if values is None else tuple(int(v) for v in values)

    def reals(self, name: str) -> tuple[float, ...] | None:
        values = self.attributes.get(name)
        return None if values is None else tuple(float(v) for v in values)

    def has(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index] is not None

    def wants(self, index: int) -> bool:
        """Whether output `index` is used."""
        return index < len(self.outputs) and self.outputs[index] != ""

    def sample(self, index: int) -> Tensor:
        """A tensor of input `index`'s shape and dtype; its content only means something where the input is known."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise self.refuse(f"input {index} is missing", "the file is not valid ONNX: check it with onnx.checker")
        return value.tensor

    def shape(self, index: int) -> tuple[int, ...]:
        return tuple(self.sample(index).shape)

    def rank(self, index: int) -> int:
        return len(self.shape(index))

    def axis(self, value: int, index: int = 0) -> int:
        """An axis of input `index`, counted from the front."""
        return value % max(self.rank(index), 1)

    def known(self, index: int) -> bool:
        """Whether input `index` is there and a constant."""
        value = self.inputs[index] if index < len(self.inputs) else None
        return value is not None and value.known

    def peek(self, index: int) -> Array:
        """A known input's value, which still arrives at run time."""
        return np.asarray(self.sample(index).numpy())

    def weight(self, index: int) -> Tensor:
        """A known input's value as a tensor of its own, for a module that will own it; None arrives at run time."""
        self._consume(index)
        return self.sample(index).clone()

    def constant(self, index: int) -> Array:
        """A known input's value; None arrives in its place at run time. Raises InexpressibleError where it is computed."""
        self._consume(index)
        return np.asarray(self.sample(index).numpy())

    def constants(self, index: int) -> tuple[int, ...]:
        """A known input of integers, flat."""
        return tuple(int(v) for v in self.constant(index).reshape(-1))

    def scalar(self, index: int) -> float | int | bool:
        """A known input of one element."""
        value: float | int | bool = self.constant(index).reshape(-1)[0].item()
        return value

    def _consume(self, index: int) -> None:
        if not self.known(index):
            raise self.refuse(
                f"its input {index} ({self.input_name(index)}) depends on the model's inputs and has to be fixed",
                "make that input a constant, for example by exporting with fixed shapes",
            )
        self.consumed.add(index)

    def input_name(self, index: int) -> str:
        value = self.inputs[index] if index < len(self.inputs) else None
        return "absent" if value is None else repr(value.name)

    @property
    def where(self) -> str:
        return f"{self.op} (node {self.name!r}, opset {self.opset})"

    def refuse(self, why: str, advice: str = ADVICE) -> InexpressibleError:
        return InexpressibleError(f"{self.source}: cannot express {self.where}: {why}", advice=advice)


Operator = Callable[[Node], Call]
"""Read a node once: check its attributes, and return what it does at run time (a function, or an `nn.Module`)."""

Table = Mapping[str, Operator]
