"""What a torch module returns, as named tensors in a fixed order: the same for asking it and for converting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbered(count: int) -> list[str]:
    """Names for outputs that have none: `output`, or `output_0`, `output_1`, …"""
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def named_outputs(result: Any) -> list[tuple[str, Any]]:
    """The tensors of a module's result: under a mapping's keys, else numbered. Raises TypeError when there are none."""
    import torch
    from torch.utils import _pytree

    if isinstance(result, torch.Tensor):
        return [("output", result)]
    if isinstance(result, Mapping) and result and all(isinstance(value, torch.Tensor) for value in result.values()):
        return [(str(name), value) for name, value in result.items()]
    tensors = [leaf for leaf in _pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        raise TypeError(f"the model returned {type(result).__name__}, not tensors")
    return list(zip(numbered(len(tensors)), tensors, strict=True))


def with_tuple_outputs(module: Any) -> Any:
    """A module that takes what `module` takes and returns the tensors of `named_outputs` as a tuple, or the only one bare."""
    import torch

    class TupleOutputs(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.training = False  # not eval(): an exported program's module refuses to be told
            self.model = module

        def forward(self, *inputs: Any) -> Any:
            tensors = tuple(value for _, value in named_outputs(self.model(*inputs)))
            return tensors[0] if len(tensors) == 1 else tensors

    return TupleOutputs()
