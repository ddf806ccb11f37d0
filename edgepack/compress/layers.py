"""Layers of a torch module by name: which are drawn anew, which are compared, what is dropped before the last one."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, assert_never

from edgepack.errors import InputError
from edgepack.recipe import Initialization

_COMPARED = 4


def weighted(module: Any) -> dict[str, Any]:
    """The convolutions and linear layers by name, in the module's own order."""
    import torch

    kinds = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}


def named(module: Any, patterns: Sequence[str], key: str) -> dict[str, Any]:
    """The layers that names or `*` patterns mean. Raises InputError naming `key` for one that matches none."""
    layers = {name: layer for name, layer in module.named_modules() if name}
    found: dict[str, Any] = {}
    for pattern in patterns:
        matching = [name for name in layers if fnmatch.fnmatchcase(name, pattern)]
        if not matching:
            near = difflib.get_close_matches(pattern, layers)
            raise InputError(
                f"{key}: the module has no layer {pattern!r}",
                expected=f"one of {', '.join(list(layers)[:12])}{', …' if len(layers) > 12 else ''}",
                advice=f"perhaps you meant {near[0]!r}?" if near else "",
            )
        found |= {name: layers[name] for name in matching}
    return found


def draw_anew(module: Any, patterns: Sequence[str], how: Initialization) -> tuple[str, ...]:
    """New random weights for the layers named and those inside them; returns the names of what was drawn.

    he: normal, for what a ReLU follows (He et al. 2015, arXiv 1502.01852); xavier: uniform (Glorot and Bengio 2010); biases
    zero; other layers that hold weights (batch norms, embeddings) as torch makes them.
    """
    import torch

    drawn: dict[str, Any] = {}
    for outer, layer in named(module, patterns, "[recover] replaced").items():
        drawn |= {f"{outer}.{inner}" if inner else outer: part for inner, part in layer.named_modules()}
    plain = weighted(module)
    for name, layer in drawn.items():
        if name not in plain:
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
            continue
        match how:
            case "he":
                torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            case "xavier":
                torch.nn.init.xavier_uniform_(layer.weight)
            case _:
                assert_never(how)
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
    return tuple(name for name, layer in drawn.items() if any(True for _ in layer.parameters(recurse=False)))


def compared(student: Any, teacher: Any, patterns: Sequence[str]) -> tuple[str, ...]:
    """Names of the layers whose outputs are compared: those named, else up to four of the weighted ones before the last."""
    if patterns:
        both = named(student, patterns, "[recover] feature_layers")
        named(teacher, patterns, "[recover] feature_layers")
        return tuple(both)
    known = weighted(teacher)
    names = [name for name in weighted(student) if name in known][:-1]
    count = min(_COMPARED, len(names))
    return tuple(names[(place + 1) * len(names) // count - 1] for place in range(count))


@contextmanager
def dropping(module: Any, share: float) -> Iterator[None]:
    """Drop `share` of what the last weighted layer reads, while the module trains (Srivastava et al. 2014)."""
    import torch

    layers = list(weighted(module).values())
    if not share or not layers:
        yield
        return
    last = layers[-1]

    def drop(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.nn.functional.dropout(inputs[0], share, layer.training), *inputs[1:])

    handle = last.register_forward_pre_hook(drop)
    try:
        yield
    finally:
        handle.remove()
