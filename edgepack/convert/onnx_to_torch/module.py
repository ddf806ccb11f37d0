"""The module a translated graph becomes: steps over numbered slots, weights in the modules that own them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from edgepack.convert.onnx_to_torch.node import Call, Tensor


@dataclass(frozen=True)
class Step:
    """One call.

    op: the operator's name; where: that and the node, for messages; name: unique, from the node's
    call: the function or module, None where it is the child called `name`
    arguments: slots, None where nothing arrives; results: slots, None where unused
    """

    op: str
    where: str
    name: str
    call: Call | None
    arguments: tuple[int | None, ...]
    results: tuple[int | None, ...]


class OnnxModule(nn.Module):
    """Runs its steps in order. Modules among them are children under their step's name; constants are buffers."""

    def __init__(
        self, steps: Sequence[Step], inputs: Sequence[int], outputs: Sequence[int], constants: Mapping[int, Tensor]
    ) -> None:
        super().__init__()
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.constants = {slot: f"constant_{slot}" for slot in sorted(constants)}
        for slot, name in self.constants.items():
            self.register_buffer(name, constants[slot])
        for step in steps:
            if isinstance(step.call, nn.Module):
                self.add_module(step.name, step.call)
        # A module is looked up by name when it runs, so that a copy, or what was put in its place, is the one that does.
        self.steps = tuple(replace(s, call=None) if isinstance(s.call, nn.Module) else s for s in steps)

    def forward(self, *inputs: Tensor) -> Any:
        values: dict[int, Tensor] = {}
        for _ in self.run(inputs, values):
            pass
        found = tuple(values[slot] for slot in self.outputs)
        return found[0] if len(found) == 1 else found

    def run(self, inputs: Sequence[Tensor], values: dict[int, Tensor]) -> Iterator[tuple[Step, Call, tuple[Any, ...]]]:
        """Each step with what it calls and its arguments, once it is done; `values` is filled on the way."""
        last = {slot: at for at, step in enumerate(self.steps) for slot in (*step.arguments, *step.results)}
        values.update(zip(self.inputs, inputs, strict=True))
        values.update((slot, self._buffers[name]) for slot, name in self.constants.items())
        for at, step in enumerate(self.steps):
            call = step.call or self._modules[step.name]
            arguments = tuple(None if slot is None else values[slot] for slot in step.arguments)
            answer = call(*arguments)
            answers = answer if isinstance(answer, tuple | list) else (answer,)
            values.update((slot, value) for slot, value in zip(step.results, answers, strict=True) if slot is not None)
            yield step, call, arguments
            for slot in {*step.arguments, *step.results}:
                if slot is not None and last[slot] == at and slot not in self.outputs:
                    del values[slot]  # activations are the most of what a model holds while it runs


def parameters_of(*tensors: Tensor | None) -> list[Any]:
    """Trainable parameters that own `tensors`."""
    return [
        None if tensor is None else nn.Parameter(tensor, requires_grad=tensor.is_floating_point()) for tensor in tensors
    ]


def without_initialization(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    """A module in eval mode whose parameters are about to be given to it."""
    return torch.nn.utils.skip_init(kind, *args, **kwargs).eval()
