"""Where a series of latencies changed its level. Pure.

One change at a time, the most likely place first (binary segmentation), each held against chance by permuting the series: while
nothing changes the order of the values means nothing, so a series without a step is said to have one with a probability of at
most ALPHA, whatever its distribution (Good, Permutation, Parametric and Bootstrap Tests of Hypotheses, 2005; the scheme is that
of Matteson and James, 2014). ruptures finds the same places, but has no test; the tests compare the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.01
LEAST = 3
"""Values on each side of a step: one or two are an outlier."""
LEAST_VALUES = 12
"""Of ten, five low and five high, one order in 126 looks as stepped by chance: too near to ALPHA."""
LEAST_CHANGE = 0.02
"""A smaller step is shown to nobody, however sure."""
_PERMUTATIONS = 999

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """index: of the first value at the new level; ratio: median after over median before, to the neighbouring steps; p: chance"""

    index: int
    ratio: float
    p: float


def find_steps(latencies: Sequence[float]) -> tuple[Step, ...]:
    """The steps in a series of positive values, in order of time; none in fewer than LEAST_VALUES."""
    values = np.log(np.asarray(latencies, np.float64))
    cuts = sorted(_split(values, 0, len(values)))
    edges = [0, *(index for index, _ in cuts), len(values)]
    steps = []
    for place, (index, p) in enumerate(cuts, 1):
        before = np.median(values[edges[place - 1] : index])
        after = np.median(values[index : edges[place + 1]])
        steps.append(Step(index, float(np.exp(after - before)), p))
    return tuple(step for step in steps if abs(step.ratio - 1) >= LEAST_CHANGE)


def _split(values: Floats, start: int, end: int) -> list[tuple[int, float]]:
    part = values[start:end]
    if len(part) < LEAST_VALUES:
        return []
    ranks = _ranks(part)
    at = int(np.argmax(_statistics(ranks[None, :])[0])) + LEAST
    p = _chance(ranks)
    if p > ALPHA:
        return []
    cut = start + at
    return [*_split(values, start, cut), (cut, p), *_split(values, cut, end)]


def _chance(ranks: Floats) -> float:
    """How often a shuffled series looks at least as stepped. Seeded: the same history always shows the same steps."""
    random = np.random.default_rng(0)
    shuffled = random.permuted(np.tile(ranks, (_PERMUTATIONS, 1)), axis=1)
    highest = _statistics(shuffled).max(axis=1)
    return float((1 + np.sum(highest >= _statistics(ranks[None, :]).max() - 1e-12)) / (_PERMUTATIONS + 1))


def _statistics(rows: Floats) -> Floats:
    """For each row of ranks and each place of a cut: the difference of the two means, in its standard deviations."""
    n = rows.shape[1]
    sizes = np.arange(LEAST, n - LEAST + 1)
    left = np.cumsum(rows, axis=1)[:, sizes - 1]
    total = rows.sum(axis=1, keepdims=True)
    difference = left / sizes - (total - left) / (n - sizes)
    heights: Floats = np.abs(difference) * np.sqrt(sizes * (n - sizes) / n)
    return heights


def _ranks(values: Floats) -> Floats:
    """Ranks, ties at their mean: an outlier counts no more than any other largest value."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(counts) - (counts - 1) / 2)[inverse].astype(np.float64)
    return ranks
