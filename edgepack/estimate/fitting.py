"""Fitting the law of `edgepack.estimate.law` to published latencies, and leaving out what it is then asked for. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from edgepack.estimate.law import KINDS, Arithmetic, Core, Fitted, centre_ms
from edgepack.work import Work

COVERAGE = 0.9
EXPONENT = 0.75
"""Of the threads: four are 2.8 times as fast as one. In ncnn's table they are 1.6 to 2, but the phone then falls behind."""
_ROUNDS = 8
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Row:
    """One published latency. family: networks that resemble each other, and are left out together"""

    device: str
    core: Core
    threads: int
    arithmetic: Arithmetic
    network: str
    family: str
    work: Work
    ms: float


def fit(rows: Sequence[Row], width: float = 0.0, source: str = "") -> Fitted:
    """Weights that are nowhere negative and make the squared relative errors least; each device and arithmetic counts alike."""
    classes = sorted({_class(row) for row in rows})
    member = np.array([classes.index(_class(row)) for row in rows])
    share = 1 / np.sqrt(np.bincount(member)[member])
    products = np.array([[getattr(row.work, kind) / 1e6 for kind in KINDS] for row in rows])
    speeds = np.array([row.core.speed(row.threads, EXPONENT) for row in rows])
    ms = np.array([row.ms for row in rows])
    level = np.ones(len(classes))
    weights = np.ones(len(KINDS))
    for _ in range(_ROUNDS):
        weights = _least_squares(products * (level[member] / speeds / ms * share)[:, None], share)
        base = np.maximum(products @ weights / speeds, 1e-12)
        level = np.array(
            [math.exp(float(np.median(np.log(ms / base)[member == index]))) for index in range(len(classes))]
        )
    unit = float(weights[KINDS.index("pointwise")]) or 1.0
    return Fitted(
        weights={kind: round(float(weight) / unit, 4) for kind, weight in zip(KINDS, weights, strict=True)},
        offsets=_offsets(classes, level * unit),
        exponent=EXPONENT,
        width=width,
        coverage=COVERAGE,
        least=min(row.work.macs for row in rows),
        most=max(row.work.macs for row in rows),
        source=source,
    )


def _class(row: Row) -> tuple[str, Arithmetic, int]:
    return row.device, row.arithmetic, row.threads


def _offsets(classes: Sequence[tuple[str, Arithmetic, int]], level: Floats) -> dict[Arithmetic, float]:
    """Of each arithmetic the mean over devices, each of which counts once however many numbers of threads it has."""
    found: dict[Arithmetic, dict[str, list[float]]] = {}
    for (device, arithmetic, _), value in zip(classes, level, strict=True):
        found.setdefault(arithmetic, {}).setdefault(device, []).append(math.log(value))
    return {
        arithmetic: round(float(np.mean([np.mean(logs) for logs in devices.values()])), 4)
        for arithmetic, devices in found.items()
    }


def _least_squares(columns: Floats, wanted: Floats) -> Floats:
    """Least squares with no negative coefficient: of all subsets of the few columns, the best whose solution has none."""
    best, error = np.zeros(columns.shape[1]), math.inf
    for size in range(1, columns.shape[1] + 1):
        for chosen in combinations(range(columns.shape[1]), size):
            part, *_ = np.linalg.lstsq(columns[:, chosen], wanted, rcond=None)
            left = float(np.sum((columns[:, chosen] @ part - wanted) ** 2))
            if (part >= 0).all() and left < error - 1e-12:
                best, error = np.zeros(columns.shape[1]), left
                best[list(chosen)] = part
    return best


def residual(known: Fitted, row: Row) -> float:
    """log(published / centre)."""
    return math.log(row.ms / centre_ms(known, row.work, row.arithmetic, row.core, row.threads))


@dataclass(frozen=True)
class Left:
    """A row that the law was not fitted to. width: of the interval that was found without it, where one was"""

    row: Row
    error: float
    width: float = 0.0

    @property
    def hit(self) -> bool:
        return abs(self.error) <= self.width


def leave_out(rows: Sequence[Row], alike: Callable[[Row, Row], bool]) -> Iterator[Left]:
    """Each row held against the law that was fitted to all rows that are not `alike` it."""
    known: dict[tuple[int, ...], Fitted] = {}
    for row in rows:
        kept = tuple(index for index, other in enumerate(rows) if not alike(row, other))
        rest = [rows[index] for index in kept]
        if any(other.arithmetic == row.arithmetic for other in rest):
            if kept not in known:
                known[kept] = fit(rest)
            yield Left(row, residual(known[kept], row))


def unknown_device_and_family(row: Row, other: Row) -> bool:
    """What a build is: no network like it, and no board like its, is in the tables."""
    return row.device == other.device or row.family == other.family


def width_of(left: Sequence[Left]) -> float:
    """Wide enough for COVERAGE of each device's rows in each arithmetic: a new board is like one of those, not like a row."""
    groups = {(one.row.device, one.row.arithmetic) for one in left}
    each = [sorted(abs(one.error) for one in left if (one.row.device, one.row.arithmetic) == group) for group in groups]
    return max(errors[min(len(errors) - 1, math.ceil(COVERAGE * (len(errors) + 1)) - 1)] for errors in each)


def nested(rows: Sequence[Row]) -> Iterator[Left]:
    """Each device held against a law and a width that were both found without it: how often the whole way holds."""
    for device in sorted({row.device for row in rows}):
        others = [row for row in rows if row.device != device]
        width = width_of(list(leave_out(others, unknown_device_and_family)))
        for left in leave_out(rows, unknown_device_and_family):
            if left.row.device == device:
                yield Left(left.row, left.error, width)
