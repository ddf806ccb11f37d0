"""LoadGen-style results next to the real LoadGen's: the same latencies must give the same numbers."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import mlperf_loadgen as loadgen
import numpy as np
import pytest
from scipy import stats as scipy_stats

from edgepack import scenarios
from edgepack.device import scenario as board
from edgepack.early_stopping import allowed_over, chance, least_queries, percentile_estimate, sample_percentile
from edgepack.trials import Load, ScenarioKind

TARGET_NS = 4_000_000
SLEEPS = np.random.default_rng(0).gamma(2.0, 2e-4, 4096)


@dataclass(frozen=True)
class Said:
    """What LoadGen logged of one run. latencies: of each query, ns, in order"""

    details: dict[str, Any]
    latencies: list[int]


def _loadgen(folder: Path, kind: ScenarioKind, queries: int, sleeps: Iterator[float]) -> Said:
    settings = loadgen.TestSettings()
    settings.scenario, settings.mode = getattr(loadgen.TestScenario, kind), loadgen.TestMode.PerformanceOnly
    settings.min_query_count = settings.max_query_count = queries
    settings.min_duration_ms = 0
    settings.multi_stream_samples_per_query = 8
    settings.server_target_qps, settings.server_target_latency_ns = 2000, TARGET_NS
    logs = loadgen.LogSettings()
    logs.log_output.outdir, logs.enable_trace = str(folder), True

    def issue(samples: list[Any]) -> None:
        time.sleep(next(sleeps))
        loadgen.QuerySamplesComplete([loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples])

    system = loadgen.ConstructSUT(issue, lambda: None)
    library = loadgen.ConstructQSL(8, 8, lambda _: None, lambda _: None)
    loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
    loadgen.DestroyQSL(library)
    loadgen.DestroySUT(system)
    return Said(_details(folder / "mlperf_log_detail.txt"), _latencies(folder / "mlperf_log_trace.json"))


def _details(log: Path) -> dict[str, Any]:
    lines = (line.removeprefix(":::MLLOG ") for line in log.read_text().splitlines())
    return {entry["key"]: entry["value"] for entry in map(json.loads, lines)}


def _latencies(trace: Path) -> list[int]:
    queries: dict[int, int] = {}
    for query, ns in re.findall(
        r'"query_seq":(\d+),"sample_idx":\d+,"issue_start_ns":\d+,"complete_ns":(\d+)', trace.read_text()
    ):
        queries[int(query)] = max(int(ns), queries.get(int(query), 0))
    return [queries[index] for index in sorted(queries)]


@pytest.fixture
def run_loadgen(tmp_path: Path) -> Callable[..., Said]:
    return lambda kind, queries, sleeps=SLEEPS: _loadgen(tmp_path, kind, queries, iter(sleeps))


def test_the_least_counts_are_the_published_ones() -> None:
    assert [least_queries(percentile) for percentile in (0.9, 0.95, 0.99)] == [64, 130, 662]


@pytest.mark.parametrize("percentile", [0.9, 0.97, 0.99])
def test_the_rule_is_the_binomial_s(percentile: float) -> None:
    for n in (50, 64, 500, 5000):
        over = allowed_over(n, percentile)
        assert chance(n, 3, percentile) == pytest.approx(scipy_stats.binom.cdf(3, n, 1 - percentile), rel=1e-9)
        assert (
            scipy_stats.binom.cdf(over, n, 1 - percentile) < 0.01 <= scipy_stats.binom.cdf(over + 1, n, 1 - percentile)
        )
        assert over < 0 or least_queries(percentile, over) <= n < least_queries(percentile, over + 1)


@pytest.mark.parametrize("queries", [63, 64, 200, 700])
def test_single_stream_estimates_are_loadgen_s(run_loadgen: Callable[..., Said], queries: int) -> None:
    said = run_loadgen("SingleStream", queries)
    ordered = sorted(said.latencies)
    assert len(ordered) == queries == said.details["result_query_count"]
    for percent in (50, 90, 95, 97, 99):
        assert sample_percentile(ordered, percent / 100) == said.details[f"result_{percent}.00_percentile_latency_ns"]
    ours = scenarios.conclude(Load(kind="SingleStream", seconds=0), said.latencies, sum(ordered), "")
    assert ours.early_stopping is not None
    assert ours.met == ours.early_stopping.met == said.details["early_stopping_met"]
    assert (ours.early_stopping.estimate_ns or 0) == said.details["early_stopping_latency_ss"]
    assert (percentile_estimate(ordered, 0.99) or 0) == said.details["early_stopping_latency_ms"]
    assert ours.percentile_ns == said.details["result_90.00_percentile_latency_ns"]


def test_multi_stream_estimates_are_loadgen_s(run_loadgen: Callable[..., Said]) -> None:
    said = run_loadgen("MultiStream", 700)
    load = Load(kind="MultiStream", seconds=0, samples_per_query=8)
    ours = scenarios.conclude(load, said.latencies, sum(said.latencies), "")
    assert ours.early_stopping is not None
    assert (ours.queries, ours.samples) == (700, 5600)
    assert ours.early_stopping.estimate_ns == said.details["early_stopping_latency_ms"]
    assert ours.percentile_ns == said.details["result_99.00_percentile_per_query_latency_ns"]


@pytest.mark.parametrize("sleeps", [np.full(1000, 5e-5), np.full(1000, 2e-3)], ids=["fast", "too slow"])
def test_server_is_judged_as_loadgen_does(run_loadgen: Callable[..., Said], sleeps: np.ndarray) -> None:
    said = run_loadgen("Server", 500, sleeps)
    load = Load(kind="Server", seconds=0, target_qps=2000)
    ours = scenarios.conclude(load, said.latencies, sum(said.latencies), "", TARGET_NS)
    assert ours.early_stopping is not None
    assert ours.early_stopping.met == said.details["early_stopping_met"]
    assert ours.early_stopping.over == said.details["result_overlatency_query_count"]
    wanted = re.search(r"at least (\d+) more queries", said.details["early_stopping_result"])
    assert ours.early_stopping.more == (int(wanted[1]) if wanted else 0)
    met = said.details["result_perf_constraints_met"] and said.details["early_stopping_met"]
    assert ours.met == met


def _play(load: Load, sleeps: Iterator[float]) -> dict[str, Any]:
    """The board's own scheduler, on a clock that only its work and its waiting move."""
    now = 0

    def query() -> None:
        nonlocal now
        now += round(next(sleeps) * 1e9)

    def wait(seconds: float) -> None:
        nonlocal now
        now += round(seconds * 1e9)

    def clock() -> int:
        nonlocal now
        now += 100
        return now

    asked = board.Load(**{field: getattr(load, field) for field in board.Load._fields})
    played: dict[str, Any] = board.play(asked, query, clock, wait)
    return played


@pytest.mark.parametrize(("kind", "least"), [("SingleStream", 64), ("MultiStream", 662)])
def test_a_stream_goes_on_for_its_least_count_and_its_duration(kind: ScenarioKind, least: int) -> None:
    streams = 8 if kind == "MultiStream" else 1
    for seconds, each in ((0.001, 1e-3), (3.0, 1e-3)):
        load = Load(kind=kind, seconds=seconds, least_queries=scenarios.least_of(kind), samples_per_query=streams)
        played = _play(load, iter([each] * 100_000))
        count = max(least, round(seconds / (each * streams)))
        assert len(played["latencies_ns"]) == pytest.approx(count, abs=1)
        assert min(played["latencies_ns"]) >= each * streams * 1e9
        assert played["taken_ns"] >= seconds * 1e9
    capped = _play(Load(kind=kind, seconds=1, most_seconds=2, least_queries=10**6), iter([1.0] * 10))
    assert len(capped["latencies_ns"]) == 2


def test_one_sleeper_ends_both_programs_after_as_many_queries(run_loadgen: Callable[..., Said]) -> None:
    """On the real clock: as many queries, one of them over the estimate, which is the largest latency of each run."""
    least = scenarios.least_of("SingleStream")
    load = Load(kind="SingleStream", seconds=0, least_queries=least)
    asked = board.Load(**{field: getattr(load, field) for field in board.Load._fields})
    sleeps = iter(SLEEPS)
    played = board.play(asked, lambda: time.sleep(next(sleeps)))
    ours = scenarios.conclude(load, played["latencies_ns"], played["taken_ns"], "")
    theirs = run_loadgen("SingleStream", least)
    assert ours.queries == len(theirs.latencies) == theirs.details["result_query_count"] == 64
    assert ours.early_stopping is not None
    assert ours.met == theirs.details["early_stopping_met"] is True
    assert ours.early_stopping.estimate_ns == max(ours.latencies_ns)
    assert theirs.details["early_stopping_latency_ss"] == max(theirs.latencies)


def test_arrivals_are_a_poisson_process_and_waiting_counts() -> None:
    load = Load(kind="Server", seconds=50, target_qps=100, least_queries=662)
    asked = board.Load(**{field: getattr(load, field) for field in board.Load._fields})
    due = list(board.arrivals(asked, 0))
    gaps = np.array([b - a for a, b in pairwise(due)]) / 1e9
    assert len(due) == pytest.approx(5000, rel=0.05)
    assert scipy_stats.kstest(gaps, "expon", args=(0, 0.01)).pvalue > 0.01
    assert due == list(board.arrivals(asked, 0))
    idle = _play(load, iter([1e-4] * 10_000))["latencies_ns"]
    assert np.median(idle) == pytest.approx(1e5, rel=0.1)
    # A queue with one worker, Poisson arrivals and constant service (M/D/1): mean wait = ρ s / 2 (1 − ρ)
    busy = np.array(_play(load, iter([8e-3] * 10_000))["latencies_ns"]) / 1e9
    assert busy.mean() == pytest.approx(8e-3 * (1 + 0.8 / (2 * 0.2)), rel=0.15)


def test_offline_counts_samples_from_the_start() -> None:
    load = Load(kind="Offline", seconds=1)
    played = _play(load, iter([0.01] * 200))
    ours = scenarios.conclude(load, played["latencies_ns"], played["taken_ns"], "")
    assert (ours.queries, ours.samples, ours.percentile_ns, ours.early_stopping) == (1, 100, None, None)
    assert ours.throughput_per_s == pytest.approx(100, rel=0.01)
    assert ours.met


def test_what_does_not_count_says_why() -> None:
    load = Load(kind="Server", seconds=60, target_qps=5)
    ours = scenarios.conclude(load, [9_000_000] * 100, 20 * 10**9, "", TARGET_NS)
    assert not ours.met
    assert [reason.split()[0] for reason in ours.reasons] == ["ended", "early", "the"]
    assert ours.early_stopping is not None
    assert ours.early_stopping.more == least_queries(0.99, 100) - 100
