"""Recurrent layers, unrolled over their fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from edgepack.convert.onnx_to_torch.module import parameters_of
from edgepack.convert.onnx_to_torch.node import Call, Node, Table, Tensor

Activation = Callable[[Tensor], Tensor]
State = tuple[Tensor, ...]

_PLAIN: dict[str, Activation] = {
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Tanh": torch.tanh,
}
_SLOPED: dict[str, tuple[float, float]] = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0, 0.0),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01, 0.0),
    "ScaledTanh": (1.0, 1.0),
    "ThresholdedRelu": (1.0, 0.0),
}


def _sloped(name: str, alpha: float, beta: float) -> Activation:
    match name:
        case "Affine":
            return lambda x: alpha * x + beta
        case "Elu":
            return lambda x: F.elu(x, alpha)
        case "HardSigmoid":
            return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)
        case "LeakyRelu":
            return lambda x: F.leaky_relu(x, alpha)
        case "ScaledTanh":
            return lambda x: alpha * torch.tanh(beta * x)
        case _:
            return lambda x: torch.where(x > alpha, x, torch.zeros_like(x))


@dataclass(frozen=True)
class Weights:
    """One direction's: w `[gates·h, in]`, r `[gates·h, h]`, wb and rb `[gates·h]`, p `[3·h]` or None."""

    w: Tensor
    r: Tensor
    wb: Tensor | None
    rb: Tensor | None
    p: Tensor | None


@dataclass(frozen=True)
class Rules:
    """How a cell steps. acts: one direction's activations in ONNX's order."""

    acts: Sequence[Activation]
    bound: float | None
    reset_after: bool
    coupled: bool

    def clipped(self, x: Tensor) -> Tensor:
        return x if self.bound is None else torch.clamp(x, -self.bound, self.bound)


Cell = Callable[[Rules, Weights, Tensor, State], State]


def rnn_cell(rules: Rules, weights: Weights, x: Tensor, state: State) -> State:
    return (rules.acts[0](rules.clipped(x + F.linear(state[0], weights.r, weights.rb))),)


def gru_cell(rules: Rules, weights: Weights, x: Tensor, state: State) -> State:
    """x: `[batch, 3·h]` in ONNX's order z, r, h, already with W and its bias."""
    (hidden,) = state
    size = hidden.shape[-1]
    f, g = rules.acts
    if rules.reset_after:
        past = F.linear(hidden, weights.r, weights.rb)
        update, reset = (f(rules.clipped(x[:, k : k + size] + past[:, k : k + size])) for k in (0, size))
        new = g(rules.clipped(x[:, 2 * size :] + reset * past[:, 2 * size :]))
    else:
        bias = (None, None) if weights.rb is None else (weights.rb[: 2 * size], weights.rb[2 * size :])
        past = F.linear(hidden, weights.r[: 2 * size], bias[0])
        update, reset = (f(rules.clipped(x[:, k : k + size] + past[:, k : k + size])) for k in (0, size))
        new = g(rules.clipped(x[:, 2 * size :] + F.linear(reset * hidden, weights.r[2 * size :], bias[1])))
    return (new + update * (hidden - new),)


def lstm_cell(rules: Rules, weights: Weights, x: Tensor, state: State) -> State:
    """x: `[batch, 4·h]` in ONNX's order i, o, f, c, already with W and its bias."""
    hidden, cell = state
    size = hidden.shape[-1]
    i, o, f, c = (x + F.linear(hidden, weights.r, weights.rb)).split(size, dim=-1)
    peep = (None, None, None) if weights.p is None else weights.p.split(size)
    act, g, h = rules.acts
    enter = act(rules.clipped(i if peep[0] is None else i + peep[0] * cell))
    keep = 1 - enter if rules.coupled else act(rules.clipped(f if peep[2] is None else f + peep[2] * cell))
    cell = keep * cell + enter * g(rules.clipped(c))
    leave = act(rules.clipped(o if peep[1] is None else o + peep[1] * cell))
    return leave * h(cell), cell


class Recurrent(nn.Module):
    """x `[t, batch, in]` (batch first with `layout` 1), initial states `[directions, batch, h]` if they arrive.

    Returns all steps `[t, directions, batch, h]`, then the last states; with `layout` 1 the batch comes first everywhere.
    """

    def __init__(
        self, cell: Cell, rules: Sequence[Rules], backwards: Sequence[bool], layout: int, **weights: Any
    ) -> None:
        super().__init__()
        self.cell, self.rules, self.backwards, self.layout = cell, tuple(rules), tuple(backwards), layout
        self.states = 2 if cell is lstm_cell else 1
        for name, weight in weights.items():
            self.register_parameter(name, weight)

    def _direction(self, at: int) -> Weights:
        wb, rb = (None, None) if self.b is None else self.b[at].chunk(2)
        return Weights(self.w[at], self.r[at], wb, rb, None if self.p is None else self.p[at])

    def forward(self, x: Tensor, *initial: Tensor) -> tuple[Tensor, ...]:
        x = x.transpose(0, 1) if self.layout else x
        initial = tuple(state.transpose(0, 1) if self.layout else state for state in initial)
        zeros = x.new_zeros(x.shape[1], self.r.shape[-1])
        runs = []
        for at in range(len(self.rules)):
            start = tuple(initial[k][at] if k < len(initial) else zeros for k in range(self.states))
            runs.append(self._run(at, x, start))
        steps = torch.stack([all_steps for all_steps, _ in runs], 1)
        last = [torch.stack([state[k] for _, state in runs]) for k in range(self.states)]
        if self.layout:
            return (steps.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
        return (steps, *last)

    def _run(self, at: int, x: Tensor, state: State) -> tuple[Tensor, State]:
        weights, hidden = self._direction(at), []
        inputs = F.linear(x, weights.w, weights.wb)
        order = range(x.shape[0] - 1, -1, -1) if self.backwards[at] else range(x.shape[0])
        for step in order:
            state = self.cell(self.rules[at], weights, inputs[step], state)
            hidden.append(state[0])
        return torch.stack(hidden[::-1] if self.backwards[at] else hidden), state


def recurrent(cell: Cell, defaults: tuple[str, ...]) -> Callable[[Node], Call]:
    """The operator of a cell; `defaults` are the names of its activations."""

    def operator(node: Node) -> Call:
        direction = node.text("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        layout = node.integer("layout")
        _check_lengths(node, node.shape(0)[1 if layout else 0])
        rules = [Rules(acts, node.attributes.get("clip"), node.flag("linear_before_reset"), node.flag("input_forget"))
                 for acts in _activations(node, defaults, count)]  # fmt: skip
        if any(node.has(i) and not node.known(i) for i in (1, 2, 3, 7)):
            raise node.refuse("its weights are computed from the model's inputs")
        given = [node.weight(i) if node.has(i) else None for i in (1, 2, 3, 7)]
        w, r, b, p = parameters_of(*given)
        return Recurrent(cell, rules, [direction == "reverse", True][:count], layout, w=w, r=r, b=b, p=p)

    return operator


def _check_lengths(node: Node, steps: int) -> None:
    if not node.has(4):
        return
    if not node.known(4) or set(node.constants(4)) != {steps}:
        raise node.refuse(
            "its sequences have lengths of their own (sequence_lens)",
            "export the model with sequences of one fixed length",
        )


def _activations(node: Node, defaults: tuple[str, ...], count: int) -> list[tuple[Activation, ...]]:
    names = node.texts("activations") or defaults * count
    alphas, betas = list(node.reals("activation_alpha") or ()), list(node.reals("activation_beta") or ())
    found: list[Activation] = []
    for name in names:
        if name in _PLAIN:
            found.append(_PLAIN[name])
        elif name in _SLOPED:
            alpha, beta = _SLOPED[name]
            found.append(_sloped(name, alphas.pop(0) if alphas else alpha, betas.pop(0) if betas else beta))
        else:
            raise node.refuse(f"its activation {name!r} is unknown")
    size = len(defaults)
    return [tuple(found[at * size : (at + 1) * size]) for at in range(count)]


RECURRENT: Table = {
    "GRU": recurrent(gru_cell, ("Sigmoid", "Tanh")),
    "LSTM": recurrent(lstm_cell, ("Sigmoid", "Tanh", "Tanh")),
    "RNN": recurrent(rnn_cell, ("Tanh",)),
}
