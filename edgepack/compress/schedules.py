"""How large a training step is, and who takes it: learning rates over time (pure), and torch's optimizers by name."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, assert_never

from edgepack.recipe import Optimizer, Schedule

_WARM_UP_BATCHES = 20
_MOMENTUM = 0.9
_STEPS = 3
_ONE_CYCLE_RISE = 0.3
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1e-4


def learning_rate(schedule: Schedule, peak: float, done: float, batches: int) -> float:
    """The rate when the share `done` (0..1) of training is over and `batches` were seen; never more than `peak`.

    one-cycle after Smith and Topin 2018 (arXiv 1708.07120): up to the peak for 30 % of the time, then down to almost nothing.
    The others rise to their first value over 20 batches: an optimizer's first estimates are its worst.
    """
    done = min(done, 1.0)
    warm = min(1.0, (batches + 1) / _WARM_UP_BATCHES)
    match schedule:
        case "cosine":
            return peak * warm * _half_cosine(done)
        case "linear":
            return peak * warm * (1 - done)
        case "step":
            return peak * warm * 0.1 ** min(int(done * _STEPS), _STEPS - 1)
        case "constant":
            return peak * warm
        case "one-cycle":
            if done < _ONE_CYCLE_RISE:
                return peak * (1 - (1 - _ONE_CYCLE_START) * _half_cosine(done / _ONE_CYCLE_RISE))
            falling = (done - _ONE_CYCLE_RISE) / (1 - _ONE_CYCLE_RISE)
            return peak * (_ONE_CYCLE_END + (1 - _ONE_CYCLE_END) * _half_cosine(falling))
        case _:
            assert_never(schedule)


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def optimizer_of(name: Optimizer, parameters: Iterable[Any], rate: float, weight_decay: float) -> Any:
    """A torch optimizer. Weight decay is decoupled in adamw, an L2 penalty in the others, as torch has it."""
    from torch import optim

    match name:
        case "adamw":
            return optim.AdamW(parameters, lr=rate, weight_decay=weight_decay)
        case "adam":
            return optim.Adam(parameters, lr=rate, weight_decay=weight_decay)
        case "sgd":
            return optim.SGD(parameters, lr=rate, momentum=_MOMENTUM, nesterov=True, weight_decay=weight_decay)
        case "adagrad":
            return optim.Adagrad(parameters, lr=rate, weight_decay=weight_decay)
        case _:
            assert_never(name)
