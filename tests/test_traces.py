"""Traces whose truth is known, a thousand seeded ones of each kind: the verdict is right, and seldom raises a false alarm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgepack import stats, verdict
from edgepack.report import Block, Code, Conditions, ProcessRun, Validity

Floats = NDArray[np.float64]
TRACES = 1000
FALSE_ALARMS = 0.01
PROCESSES, SAMPLES, BLOCK = 5, 60, 6
LEVEL = 5e6


def _quiet(random: np.random.Generator) -> Floats:
    """[process, sample] in ns on a quiet board: right-skewed noise of 0.3 to 3 %, half a percent between processes."""
    noise = math.exp(random.uniform(math.log(0.003), math.log(0.03)))
    between = np.exp(random.normal(0, 0.005, (PROCESSES, 1)))
    return LEVEL * between * (1 + noise * random.gamma(2, 0.5, (PROCESSES, SAMPLES)))


def _drifting(random: np.random.Generator) -> Floats:
    """8 to 40 % slower at the end of each process than at its beginning, or 8 to 30 % faster; in a line or settling."""
    change = random.uniform(0.08, 0.4) if random.random() < 0.5 else -random.uniform(0.08, 0.3)
    ramp = np.linspace(0, 1, SAMPLES)
    if random.random() < 0.5:
        ramp = 1 - np.exp(-3 * ramp)
    return _quiet(random) * (1 + change * ramp)


def _bimodal(random: np.random.Generator) -> Floats:
    """Two modes 10 to 100 % apart, each of a quarter of the samples at least."""
    share, gap = random.uniform(0.25, 0.75), random.uniform(1.1, 2.0)
    return _quiet(random) * np.where(random.random((PROCESSES, SAMPLES)) < share, gap, 1.0)


def _one_outlier(random: np.random.Generator) -> Floats:
    """One sample three to a hundred times as long: the scheduler struck."""
    times = _quiet(random)
    times[random.integers(PROCESSES), random.integers(SAMPLES)] *= random.uniform(3, 100)
    return times


def _too_short(random: np.random.Generator) -> Floats:
    return _quiet(random)[: random.integers(1, PROCESSES), : random.integers(2, 40)]


def _runs(times: Floats, told: Callable[[int, int], dict[str, Any]] = lambda process, sample: {}) -> list[ProcessRun]:
    runs = []
    for number, row in enumerate(times):
        starts = range(0, len(row), BLOCK)
        blocks = tuple(
            Block(start=start, at_ns=start, **{"mhz": (1500,), "throttled": 0, **told(number, start)})
            for start in starts
        )
        samples = tuple(np.rint(row).astype(int).tolist())
        runs.append(
            ProcessRun(import_ns=1, load_ns=1, first_ns=1, warm_ns=(), samples_ns=samples, vmhwm_kb=1, blocks=blocks)
        )
    return runs


def _judge(runs: Sequence[ProcessRun]) -> Validity:
    quiet = Conditions(governor="performance", load_1m=0.1, throttled=0, temperature_c=50.0)
    summary = stats.summarize(runs)
    return verdict.judge(verdict.Evidence(tuple(runs), summary, 500, quiet, quiet, None, 4))


def _verdicts(make: Callable[[np.random.Generator], Floats]) -> Iterator[Validity]:
    for seed in range(TRACES):
        yield _judge(_runs(make(np.random.default_rng(seed))))


@pytest.mark.parametrize("make", [_quiet, _one_outlier])
def test_a_quiet_board_is_valid_and_one_outlier_changes_nothing(make: Callable[[np.random.Generator], Floats]) -> None:
    alarms = [found for found in _verdicts(make) if found.verdict != "valid"]
    assert len(alarms) <= FALSE_ALARMS * TRACES, alarms[:5]


@pytest.mark.parametrize(
    ("make", "code"), [(_drifting, "drifting"), (_bimodal, "bimodal"), (_too_short, "too-few-samples")]
)
def test_what_is_wrong_is_named(make: Callable[[np.random.Generator], Floats], code: Code) -> None:
    missed = [seed for seed, found in enumerate(_verdicts(make)) if found.verdict == "valid" or code not in found.codes]
    assert len(missed) <= FALSE_ALARMS * TRACES, missed[:20]


def test_throttling_at_a_known_sample_is_placed() -> None:
    """Half of the boards tell it by the firmware's bits, half by a clock that falls."""
    wrong = []
    for seed in range(TRACES):
        random = np.random.default_rng(seed)
        times, by_bits = _quiet(random), bool(seed % 2)
        process, at = int(random.integers(PROCESSES)), BLOCK * int(random.integers(2, SAMPLES // BLOCK - 1))
        times[process, at:] *= random.uniform(1.1, 2.0)
        times[process + 1 :] *= 1.2

        def told(
            number: int, sample: int, process: int = process, at: int = at, bits: bool = by_bits
        ) -> dict[str, Any]:
            throttled = number == process and sample >= at
            said: dict[str, Any] = {"throttled": 0x4} if bits else {"mhz": (1000,)}
            return said if throttled else {}

        found = _judge(_runs(times, told))
        placed = any(f"sample {at} of process {process + 1}" in reason for reason in found.reasons)
        if found.verdict != "invalid" or found.codes[0] != "throttled" or not placed:
            wrong.append(seed)
    assert len(wrong) <= FALSE_ALARMS * TRACES, wrong[:20]


@pytest.mark.parametrize("between", [0.0, 0.002, 0.01])
def test_the_interval_covers_the_median_of_another_set_of_processes(between: float) -> None:
    """95 % means 95 % or more, whether processes differ or not; and it is no wider than it must be."""
    random = np.random.default_rng(1)
    truth = LEVEL * (1 + 0.02 * 0.83917)  # the median of a gamma distribution of shape 2 and scale 1/2
    inside, widths = 0, []
    for _ in range(TRACES):
        levels = LEVEL * np.exp(random.normal(0, between, (PROCESSES, 1)))
        runs = _runs(levels * (1 + 0.02 * random.gamma(2, 0.5, (PROCESSES, 100))))
        low, high = stats.summarize(runs).p50_interval_ns
        inside += low <= truth <= high
        widths.append((high - low) / truth)
    assert inside / TRACES >= 0.935, f"{inside} of {TRACES}"
    assert np.mean(widths) < 0.006 + 2.6 * between


@pytest.mark.parametrize(
    ("n", "distribution"), [(6, "exponential"), (41, "normal"), (300, "exponential"), (301, "normal")]
)
def test_order_statistics_cover_whatever_the_distribution(n: int, distribution: str) -> None:
    random = np.random.default_rng(n)
    draws = random.exponential(1.0, (4000, n)) if distribution == "exponential" else random.normal(9, 1, (4000, n))
    truth = math.log(2) if distribution == "exponential" else 9.0
    low, high = stats.median_interval(range(n))  # ranks are all that it takes from its samples
    ordered = np.sort(draws, axis=1)
    covered = np.mean((ordered[:, low] <= truth) & (truth <= ordered[:, high]))
    assert 0.945 <= covered <= 0.985, covered
