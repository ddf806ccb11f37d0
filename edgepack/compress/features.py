"""Distillation from inner layers: how alike samples look to the student and to its teacher, whatever their widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgepack.errors import InputError


class Watched:
    """What named layers gave in the last forward pass."""

    def __init__(self) -> None:
        self.outputs: dict[str, Any] = {}

    def _keep(self, name: str, output: Any) -> None:
        self.outputs[name] = output[0] if isinstance(output, tuple) else output


@contextmanager
def watching(module: Any, names: Sequence[str]) -> Iterator[Watched]:
    """Keep the outputs of the layers `names` of `module` as long as the block lasts."""
    watched, layers = Watched(), dict(module.named_modules())

    def hook(name: str) -> Any:
        return lambda _layer, _inputs, output: watched._keep(name, output)

    handles = [layers[name].register_forward_hook(hook(name)) for name in names]
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()


def unlikeness(student: Watched, teacher: Watched, names: Sequence[str]) -> Any:
    """The mean squared difference between the samples' likeness as the student's layers see it and as the teacher's do.

    The likeness of two samples is the cosine between a layer's outputs for them, about the batch's mean: a matrix over the
    batch, so that a layer may have lost channels (after Tung and Mori 2019, arXiv 1907.09682, and Park et al. 2019,
    arXiv 1904.05068). Raises InputError where a forward pass came through none of the layers.
    """
    import torch

    terms = [
        torch.nn.functional.mse_loss(_likeness(student.outputs[name]), _likeness(teacher.outputs[name]))
        for name in names
        if name in student.outputs and name in teacher.outputs
    ]
    if not terms:
        raise InputError(
            f"the layers {', '.join(names)} are not run as modules: their outputs cannot be compared",
            advice="name others in [recover] feature_layers, or leave features at 0",
        )
    return torch.stack(terms).mean()


def _likeness(output: Any) -> Any:
    import torch

    flat = output.flatten(1) if output.ndim > 1 else output[:, None]
    rows = torch.nn.functional.normalize(flat - flat.mean(0, keepdim=True), dim=1)
    return rows @ rows.T
