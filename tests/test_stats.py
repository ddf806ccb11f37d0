"""What samples come to: on traces whose truth is known, because the test made them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack import stats
from edgepack.digest import Digest
from edgepack.report import (
    BenchProtocol,
    BundleRef,
    Conditions,
    ProcessRun,
    Report,
    RunContext,
    RuntimeRef,
    Validity,
    Verdict,
)

from .traces import run_of, steady

samples = st.lists(st.integers(1, 10**10), min_size=1, max_size=300)


def _report(processes: Sequence[ProcessRun], target: str = "kitchen", verdict: Verdict = "valid") -> Report:
    conditions = Conditions()
    return Report(
        bundle=BundleRef("kws", "1.0.0", Digest("sha256:" + "0" * 64)),
        variant="kws.rpi4.w8a8.tflite",
        runtime=RuntimeRef("litert", "2.3.0", 1, None),
        device={},
        run_context=RunContext(target=target, started="", edgepack="0.1.0", before=conditions, after=conditions),
        protocol=BenchProtocol(),
        processes=tuple(processes),
        summary=stats.summarize(processes),
        harness_overhead_ns=1,
        validity=Validity(verdict, () if verdict == "valid" else ("because",)),
    )


@given(samples, st.integers(1, 100))
def test_a_percentile_is_the_smallest_sample_that_enough_do_not_exceed(values: list[int], percent: int) -> None:
    ordered = sorted(values)
    found = stats.percentile(ordered, percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


@given(st.lists(samples, min_size=1, max_size=4))
def test_a_summary_is_ordered_and_complete(runs: list[list[int]]) -> None:
    summary = stats.summarize([run_of(run) for run in runs])
    low, high = summary.p50_interval_ns
    assert summary.minimum_ns <= low <= summary.p50_ns <= high <= summary.maximum_ns
    assert summary.p50_ns <= summary.p90_ns <= summary.p99_ns <= summary.maximum_ns
    assert summary.minimum_ns <= summary.mean_ns <= summary.maximum_ns
    assert summary.count == sum(map(len, runs))


@pytest.mark.parametrize(("n", "k"), [(6, 1), (10, 2), (20, 6), (50, 18), (100, 40), (500, 228)])
def test_the_median_interval_is_the_published_table_s(n: int, k: int) -> None:
    """Ranks of the 95 % interval of the median: Conover, Practical Nonparametric Statistics; exact binomial."""
    assert stats.median_interval(range(1, n + 1)) == (k, n - k + 1)


def test_the_median_interval_covers_the_median() -> None:
    random = np.random.default_rng(1)
    trials = 2000
    inside = 0
    for _ in range(trials):
        low, high = stats.median_interval(sorted(random.exponential(1e6, 41).astype(int).tolist()))
        inside += low <= 1e6 * math.log(2) <= high
    assert 0.94 < inside / trials < 0.99


def test_an_equal_run_is_the_same_and_a_slower_one_is_slower() -> None:
    """A against A must seldom differ (5 % by definition), 20 % must be seen: over many pairs with 2 % between processes."""
    random = np.random.default_rng(9)

    def run(level: float, processes: int) -> Report:
        levels = level * np.exp(random.normal(0, 0.02, processes))
        return _report([run_of(one * (1 + 0.02 * random.gamma(2, 0.5, 40))) for one in levels])

    for processes, least_seen in ((3, 0.95), (5, 1.0)):
        same = [stats.compare(run(5e6, processes), run(5e6, processes), 0.05) for _ in range(200)]
        slower = [stats.compare(run(5e6, processes), run(6e6, processes), 0.05) for _ in range(100)]
        assert sum(one.verdict != "same" for one in same) <= 0.08 * len(same)
        assert sum(one.regression for one in slower) >= least_seen * len(slower)
        covered = sum(one.interval[0] <= 1.2 <= one.interval[1] for one in slower)
        assert covered >= 0.9 * len(slower)


@given(st.integers(0, 50), st.floats(0.3, 3), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=60)
def test_comparing_the_other_way_round_inverts(seed: int, factor: float, first: int, second: int) -> None:
    a, b = _report(steady(seed, first, 20)), _report(steady(seed + 99, second, 20, level=5e6 * factor))
    there, back = stats.compare(a, b, 0.05), stats.compare(b, a, 0.05)
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.interval[0] == pytest.approx(1 / back.interval[1])
    assert {there.verdict, back.verdict} in ({"same"}, {"faster", "slower"})
    assert there.interval[0] <= there.ratio <= there.interval[1]
    assert there.regression == (there.verdict == "slower" and there.ratio > 1.05)


def test_the_margin_s_boundary() -> None:
    a = _report([run_of([1_000_000] * 20)] * 3)
    b = _report([run_of([1_100_000] * 20)] * 3)
    at, below = stats.compare(a, b, 0.1000001), stats.compare(a, b, 0.0999999)
    assert (at.verdict, at.regression, at.excluded) == ("slower", False, True)
    assert (below.verdict, below.regression, below.excluded) == ("slower", True, False)


def test_noise_excludes_nothing() -> None:
    noisy = [run_of([level] * 20) for level in (4e6, 5e6, 6e6)]
    comparison = stats.compare(_report(noisy), _report(noisy), 0.05)
    assert (comparison.verdict, comparison.regression, comparison.excluded) == ("same", False, False)


def test_what_weakens_a_comparison_is_said() -> None:
    a = _report(steady(0), verdict="suspect")
    b = msgspec.structs.replace(_report(steady(1, 1), target="hall"), runtime=RuntimeRef("litert", "2.3.0", 4, None))
    comparison = stats.compare(a, b, 0.05)
    assert comparison.validity == "suspect"
    text = " | ".join(comparison.reasons)
    assert "different targets: kitchen and hall" in text
    assert "different numbers of threads: 1 and 4" in text
    assert "one process" in text
    assert "because" in text


def test_the_median_of_two_is_a_sample() -> None:
    assert stats.percentile([1, 2], 50) == statistics.median_low([1, 2])


def test_turns_cancel_what_changes_slowly() -> None:
    """A board that becomes 40 % slower from the first process to the last, and B 10 % slower than A all along."""
    random = np.random.default_rng(4)
    seen = {"turns": 0, "apart": 0}
    for _ in range(100):
        heat = np.linspace(1.0, 1.4, 10) * np.exp(random.normal(0, 0.003, 10))
        turns = [side for index in range(5) for side in ((0, 1), (1, 0))[index % 2]]
        runs: tuple[list[ProcessRun], list[ProcessRun]] = ([], [])
        for side, level in zip(turns, heat, strict=True):
            runs[side].append(run_of(5e6 * level * (1.1 if side else 1.0) * (1 + 0.01 * random.gamma(2, 0.5, 40))))
        a, b = _report(runs[0]), _report(runs[1])
        paired, apart = stats.compare_pairs(a, b, 0.05), stats.compare(a, b, 0.05)
        assert paired.ratio == pytest.approx(apart.ratio)
        seen["turns"] += paired.verdict == "slower"
        seen["apart"] += apart.verdict == "slower"
    assert seen["turns"] >= 95
    assert seen["apart"] <= 20


def test_turns_that_are_equal_seldom_differ() -> None:
    random = np.random.default_rng(5)

    def run() -> Report:
        levels = 5e6 * np.exp(random.normal(0, 0.01, 5))
        return _report([run_of(one * (1 + 0.02 * random.gamma(2, 0.5, 40))) for one in levels])

    different = sum(stats.compare_pairs(run(), run(), 0.05).verdict != "same" for _ in range(300))
    assert different <= 0.08 * 300


def test_turns_need_two_of_each() -> None:
    one = _report(steady(0, 1))
    with pytest.raises(ValueError, match="two processes"):
        stats.compare_pairs(one, one, 0.05)
    with pytest.raises(ValueError, match="argument"):
        stats.compare_pairs(_report(steady(0, 3)), _report(steady(0, 2)), 0.05)
