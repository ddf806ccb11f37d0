"""A model under a load as LoadGen makes it, scheduled on the board: SingleStream, MultiStream, Server, Offline.

The definitions are those of the MLPerf inference rules; nothing here is LoadGen, so results are called "LoadGen-style". A query's
latency counts from when it was issued (Server: from when it was due) until its outputs are read. One worker answers, in order.
"""

from __future__ import annotations

import gc
import random
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple

from . import bench, samples
from . import run as models
from .child import START_SECONDS, Beats, Child, serve
from .faults import Fault
from .requests import decode

_SPIN_NS = 2_000_000
"""Before a query is due: a sleep may take that much longer than asked."""
KINDS = ("SingleStream", "MultiStream", "Server", "Offline")

Clock = Callable[[], int]
Query = Callable[[], None]
"""Answers one sample, outputs included."""


class Load(NamedTuple):
    """least_queries: even where `seconds` are over; most_seconds: an end all the same; target_qps: of Server"""

    kind: str
    seconds: float
    most_seconds: float
    least_queries: int
    samples_per_query: int
    target_qps: float
    threads: int
    seed: int
    inputs: str


class ScenarioRequest(NamedTuple):
    name: str
    release: str
    variant: str


def run(root: str, request: Any) -> Dict[str, Any]:
    """Answer a `ScenarioRequest` of `edgepack.protocol` with a `ScenarioReply`. Raises Fault as a benchmark does."""
    raw = dict(request)
    load = decode(Load, raw.pop("load", {}))
    asked = decode(ScenarioRequest, raw)
    if load.kind not in KINDS or (load.kind == "Server" and load.target_qps <= 0) or load.samples_per_query < 1:
        raise Fault("bug", f"a scenario cannot be made of {load}")
    subject = bench.find_subject(root, bench.BenchRequest(asked.name, asked.release, asked.variant), load.inputs)
    order = {"model": subject.model, "runtime": subject.runtime, "golden": subject.golden, "load": load._asdict()}
    title = f"the scenario {load.kind} ({subject.variant}, {subject.runtime})"
    seconds = START_SECONDS + load.most_seconds + load.seconds
    answer = (
        Child(subject.python, __name__, title, seconds, "ask for fewer queries, or a shorter duration").ask(order).reply
    )
    return {"variant": subject.variant, **answer}


def child() -> None:
    serve(_work)


def _work(order: Dict[str, Any], beats: Beats) -> Dict[str, Any]:
    load = decode(Load, order["load"])
    session = models.open_model(order["model"], order["runtime"], load.threads)
    inputs = samples.golden(session, order["golden"]) if order["golden"] else samples.seeded(session)
    chosen = random.Random(load.seed)

    def query() -> None:
        session.prepare(inputs[chosen.randrange(len(inputs))])
        session.invoke_only()
        session.results()

    for _ in range(5):
        query()
    gc.collect()
    gc.disable()  # a collection inside a query would be ours, not the model's
    return {"runtime_version": session.version, **play(load, query)}


def play(
    load: Load, query: Query, clock: Clock = time.perf_counter_ns, wait: Callable[[float], None] = time.sleep
) -> Any:
    """Issue queries until the duration and the least count are reached; latencies in ns, and how long all of it took.

    Offline's latencies are those of its samples: all of them were issued at the start.
    """
    start = clock()
    if load.kind == "Server":
        latencies = _serve(load, query, start, clock, wait)
    elif load.kind == "Offline":
        latencies = _all_at_once(load, query, start, clock)
    else:
        latencies = _stream(load, query, start, clock)
    return {"latencies_ns": latencies, "taken_ns": clock() - start}


def _stream(load: Load, query: Query, start: int, clock: Clock) -> List[int]:
    latencies = []
    for _ in _going(load, start, clock):
        issued = clock()
        for _ in range(load.samples_per_query):
            query()
        latencies.append(clock() - issued)
    return latencies


def _all_at_once(load: Load, query: Query, start: int, clock: Clock) -> List[int]:
    latencies = []
    for _ in _going(load, start, clock):
        query()
        latencies.append(clock() - start)
    return latencies


def _serve(load: Load, query: Query, start: int, clock: Clock, wait: Callable[[float], None]) -> List[int]:
    """Arrivals of a Poisson process; a query that is due while another runs waits for it, and its latency counts that."""
    latencies = []
    for due in arrivals(load, start):
        while (left := due - clock()) > 0:
            if left > _SPIN_NS:
                wait((left - _SPIN_NS) / 1e9)
        query()
        latencies.append(clock() - due)
        if clock() - start > load.most_seconds * 1e9:
            break
    return latencies


def arrivals(load: Load, start: int) -> Iterator[int]:
    """When queries are due, ns: exponential gaps of mean 1 / target_qps, seeded."""
    gaps = random.Random(load.seed + 1)
    due, count = 0.0, 0
    while due < load.seconds or count < load.least_queries:
        yield start + int(due * 1e9)
        due += gaps.expovariate(load.target_qps)
        count += 1


def _going(load: Load, start: int, clock: Clock) -> Iterator[int]:
    count = 0
    while True:
        taken = (clock() - start) / 1e9
        if taken > load.most_seconds or (taken >= load.seconds and count >= load.least_queries):
            return
        yield count
        count += 1
