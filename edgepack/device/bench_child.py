"""Inside one fresh process: import, load, first inference, warm-up until steady, timed blocks, and what timing itself takes.

Between blocks the board is looked at; within one nothing happens but inferences. Garbage collection is off from the warm-up on.
"""

from __future__ import annotations

import gc
import importlib
import os
import tempfile
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional

from . import conditions, null_models, samples
from . import run as models
from .bench_protocol import Protocol
from .child import Beats, serve

BLOCK_SECONDS = 0.05
MOST_WARM = 1000
"""Of a warm-up's inferences, how many are kept."""
STEADY = 0.02
_WINDOWS = 4
"""A warm-up's shortest time holds so many windows, whose medians are compared."""
_MOST_WARM_UPS = 8
"""A warm-up that does not settle ends after so many times its shortest time."""
_MOST_INPUTS = 32
_NULL_CALLS = 2001
_NULL_SECONDS = 0.2


class Opened(NamedTuple):
    """An open model with its inputs, and what that took. shots: one for each set of inputs, used in turn."""

    session: models.Session
    shots: List[models.Shot]
    runtime: str
    import_ns: int
    load_ns: int
    first_ns: int
    baseline_kb: int


def child() -> None:
    serve(lambda order, beats: _passes(order["pass"])(order, Protocol(**order["protocol"]), beats))


def _passes(name: str) -> Callable[[Dict[str, Any], Protocol, Beats], Dict[str, Any]]:
    if name == "headline":
        return headline
    from . import bench_ops, bench_passes

    return {
        "cold": bench_passes.cold,
        "sustained": bench_passes.sustained,
        "energy": bench_passes.energy,
        "ops": bench_ops.operators,
    }[name]


def headline(order: Dict[str, Any], protocol: Protocol, beats: Beats) -> Dict[str, Any]:
    """What a report is made of: this process's times, in nanoseconds, and its memory, KiB."""
    opened = open_all(order, protocol)
    stop = time.perf_counter_ns() + int(protocol.seconds * 1e9)
    gc.collect()
    gc.disable()  # a collection inside a sample would be ours, not the model's
    warm = warm_up(opened.shots, protocol, stop, beats)
    timed = time_blocks(opened.shots, protocol, stop, str(order["tree"]), beats)
    peak = peak_kb()
    return {
        "runtime_version": opened.session.version,
        "build": opened.session.build(),
        "overhead_ns": harness_overhead_ns(opened.runtime, protocol.threads),
        "process": {
            "import_ns": opened.import_ns,
            "load_ns": opened.load_ns,
            "first_ns": opened.first_ns,
            "warm_ns": warm.times[:MOST_WARM],
            "warm_count": len(warm.times),
            "steady": warm.steady,
            "samples_ns": timed.samples,
            "blocks": timed.blocks,
            "vmhwm_kb": peak,
            "baseline_kb": opened.baseline_kb,
        },
    }


def open_all(order: Dict[str, Any], protocol: Protocol) -> Opened:
    """Import, load, first inference. Raises ModelError for what does not open, or not with this batch."""
    model, runtime = str(order["model"]), str(order["runtime"])
    if protocol.pin:
        os.sched_setaffinity(0, protocol.pin)
    started = time.perf_counter_ns()
    importlib.import_module(models.MODULES[runtime])
    imported = time.perf_counter_ns()
    baseline = peak_kb()
    opened = time.perf_counter_ns()
    session = models.open_model(model, runtime, protocol.threads)
    loaded = time.perf_counter_ns()
    samples.ensure_batch(session, protocol.batch)
    inputs = read_inputs(session, str(order["golden"]), protocol.batch)
    first = time.perf_counter_ns()
    session.run_raw(inputs[0])
    ran = time.perf_counter_ns()
    shots = [session.shot(one) for one in inputs]
    return Opened(session, shots, runtime, imported - started, loaded - opened, ran - first, baseline)


class WarmUp(NamedTuple):
    """steady: whether the last windows agree; None where no time was given to tell"""

    times: List[int]
    steady: Optional[bool]


def warm_up(shots: List[models.Shot], protocol: Protocol, stop: int, beats: Beats) -> WarmUp:
    """Run for the protocol's count and time, and on until three windows neither rise nor fall by more than 2 %.

    A warm-up that does not settle ends after eight times its shortest time, and any at half of what is left until `stop`.
    """
    start = time.perf_counter_ns()
    last = start + (stop - start) // 2
    shortest = int(protocol.warm_seconds * 1e9)
    times: List[int] = []
    medians: List[int] = []
    while True:
        opened = len(times)
        until = time.perf_counter_ns() + shortest // _WINDOWS
        while len(times) < protocol.warmup or time.perf_counter_ns() < until:
            times += time_some(shots, 1, len(times))
            if time.perf_counter_ns() > last:
                break
        now = time.perf_counter_ns()
        if len(times) > opened:
            medians.append(median(times[opened:]))
            beats.tell({"stage": "warming", "samples": len(times), "p50_ns": medians[-1]})
        if shortest == 0:
            return WarmUp(times, None)
        if now > last or now - start >= _MOST_WARM_UPS * shortest:
            return WarmUp(times, settled(medians))
        if now - start >= shortest and settled(medians):
            return WarmUp(times, True)


def settled(medians: List[int]) -> bool:
    """Whether the last three window medians neither rise nor fall steadily by more than `STEADY` in all."""
    if len(medians) < 3:
        return False
    a, b, c = medians[-3:]
    trend = a < b < c or a > b > c
    return not trend or abs(c - a) <= STEADY * a


class Timed(NamedTuple):
    samples: List[int]
    blocks: List[Dict[str, Any]]


def time_blocks(shots: List[models.Shot], protocol: Protocol, stop: int, tree: str, beats: Beats) -> Timed:
    """Blocks of timed inferences until the median is known, the most samples are taken, or `stop` has come.

    Of a model so fast that a block would hold more than its share of the samples, the rest of a block runs untimed: the load
    is the same, and the samples span the whole time.
    """
    glances = conditions.Glances(tree)
    share = max(1, int(protocol.most_samples * BLOCK_SECONDS / max(protocol.least_seconds, BLOCK_SECONDS)))
    start = time.perf_counter_ns()
    taken: List[int] = []
    blocks: List[Dict[str, Any]] = []
    while True:
        began = time.perf_counter_ns()
        blocks.append({"start": len(taken), "at_ns": began - start, **glances.look()})
        time_some(shots, 1, len(taken))  # looking cooled the caches: one more, untimed
        block_end = min(time.perf_counter_ns() + int(BLOCK_SECONDS * 1e9), stop)
        first = len(taken)
        while len(taken) < protocol.most_samples and len(taken) - first < share:
            taken += time_some(shots, 1, len(taken))
            if time.perf_counter_ns() >= block_end:
                break
        while time.perf_counter_ns() < block_end:
            time_some(shots, 8, len(taken))
        beat = {"stage": "timing", "block": len(blocks), "samples": len(taken), "p50_ns": median(taken[first:])}
        beats.tell({**beat, "temperature_c": blocks[-1]["temperature_c"], "mhz": blocks[-1]["mhz"]})
        if _enough(taken, protocol, time.perf_counter_ns() - start, stop - time.perf_counter_ns()):
            return Timed(taken, blocks)


def _enough(samples: List[int], protocol: Protocol, spent: int, left: int) -> bool:
    if left <= 0 or len(samples) >= protocol.most_samples:
        return True
    if len(samples) < protocol.samples or spent < protocol.least_seconds * 1e9:
        return False
    low, high = median_interval(sorted(samples))
    return high - low <= protocol.precision * median(samples)


def time_some(shots: List[models.Shot], count: int, turn: int) -> List[int]:
    """`count` inferences over the inputs in turn, each timed without setting its input."""
    clock = time.perf_counter_ns
    times = []
    for index in range(turn, turn + count):
        set_inputs, run = shots[index % len(shots)]
        set_inputs()
        before = clock()
        run()
        times.append(clock() - before)
    return times


def median(values: List[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def median_interval(ordered: List[int]) -> List[int]:
    """The median's 95 % interval from order statistics, by the normal approximation of their ranks: when to stop, no more.

    The report's own interval is exact and is made on the host (`edgepack.stats`).
    """
    reach = 0.98 * len(ordered) ** 0.5
    low, high = int(len(ordered) / 2 - reach), int(len(ordered) / 2 + reach + 1)
    return [ordered[max(0, low)], ordered[min(len(ordered) - 1, high)]]


def harness_overhead_ns(runtime: str, threads: int) -> int:
    """The median of a model that computes nothing, in the same runtime, timed as the samples are.

    An upper bound of what is not the model's: beside the timing it holds the runtime's own entry.
    """
    with tempfile.NamedTemporaryFile(suffix=".model") as file:
        file.write(null_models.of(runtime))
        file.flush()
        session = models.open_model(file.name, runtime, threads)
        shots = [session.shot(one) for one in samples.seeded(session)]
    time_some(shots, 20, 0)
    stop = time.perf_counter() + _NULL_SECONDS
    times: List[int] = []
    while len(times) < _NULL_CALLS and (not times or time.perf_counter() < stop):
        times += time_some(shots, 20, 0)
    return median(times)


def read_inputs(session: models.Session, golden: str, batch: int) -> List[List[Any]]:
    """Sets of stored-form inputs: the golden samples, or seeded noise."""
    return samples.golden(session, golden, batch)[:_MOST_INPUTS] if golden else samples.seeded(session, batch)


def peak_kb(status: str = "/proc/self/status") -> int:
    """This process's peak resident set, KiB (VmHWM)."""
    with open(status) as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
