"""How far two machines agree on the same samples: integer kernels round differently from core to core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgepack.errors import InputError
from edgepack.samples import Array, Arrays
from edgepack.trials import Difference


@dataclass(frozen=True)
class Agreement:
    """share: of samples with the same class, None where the first output holds no scores of classes

    differing: how many have another one, and differences: which, indexed as the samples are
    max_abs: largest difference of any value; within: every output keeps its tolerance
    """

    share: float | None
    differing: int
    differences: tuple[Difference, ...]
    max_abs: float
    within: bool


def agreement(host: Arrays, board: Arrays, labels: Array, tolerance: Sequence[float]) -> Agreement:
    """host, board: for each output an array `[n, …]`; labels: `[n, …]`; tolerance: for each output, absolute.

    Raises InputError where the board gave other shapes.
    """
    if len(host) != len(board) or any(a.size != b.size or len(a) != len(b) for a, b in zip(host, board, strict=True)):
        raise InputError(
            f"the board answered {[list(one.shape) for one in board]} where this machine has {[list(one.shape) for one in host]}",
            advice="push the bundle again",
        )
    apart = [_apart(a, b) for a, b in zip(host, board, strict=True)]
    differences = _differences(host[0], board[0], labels)
    return Agreement(
        share=None if differences is None else 1 - len(differences) / len(labels),
        differing=len(differences or ()),
        differences=differences or (),
        max_abs=max(apart),
        within=all(found <= bound for found, bound in zip(apart, tolerance, strict=False)),
    )


def _apart(host: Array, board: Array) -> float:
    difference = np.abs(host.astype(np.float64).reshape(-1) - board.astype(np.float64).reshape(-1))
    return float(difference.max()) if difference.size else 0.0


def _differences(host: Array, board: Array, labels: Array) -> tuple[Difference, ...] | None:
    here, there = (array.reshape(len(array), -1) for array in (host, board))
    classes = here.shape[1]
    truth = labels.reshape(len(labels), -1)
    if truth.shape[1] == classes > 1 and ((truth == 0) | (truth == 1)).all() and (truth.sum(axis=1) == 1).all():
        truth = truth.argmax(axis=1)[:, None]
    if classes < 2 or truth.shape[1] != 1 or truth.dtype.kind not in "iub":
        return None
    a, b = here.argmax(axis=1), there.argmax(axis=1)
    return tuple(Difference(int(i), int(truth[i, 0]), int(a[i]), int(b[i])) for i in np.flatnonzero(a != b))
