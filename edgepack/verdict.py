"""Whether a benchmark's numbers say something about the device, and every reason why not. Pure.

A reason that makes a run `invalid` means that its numbers are not the device's own; one that makes it `suspect`, that they may
not hold another time. docs/benchmarking.md lists the codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from edgepack import stats
from edgepack.report import Code, Conditions, Preflight, ProcessRun, Summary, Validity, Verdict
from edgepack.target import BoardKind

Floats = NDArray[np.float64]

MAX_SPREAD = 0.05
"""Between process medians. Published tables of Raspberry Pis vary by 1.1 % at the median, 3.5 % at the 90th percentile."""
MAX_DRIFT = 0.03
MAX_OVERHEAD = 0.01
MAX_INTERVAL = 0.02
MIN_PROCESSES = 5
MIN_SAMPLES = 64
"""LoadGen's minimum for a 90th percentile with one query over the latency."""
MAX_LOAD = 0.25
"""Of the cores, before the run."""
MAX_SWAPPED = 256
"""Pages that may go to or come from the swap during a run: a megabyte."""
SLOWER_CLOCK = 0.95
HOT_C = 80.0
"""Where a Raspberry Pi begins to lower its clock."""
_THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on. board: set where edgepack started the board itself; cores: of the board.

    overhead_ns: a null model there, timed as the samples are
    """

    processes: tuple[ProcessRun, ...]
    summary: Summary
    overhead_ns: int
    before: Conditions
    after: Conditions
    board: BoardKind | None
    cores: int
    between: tuple[Conditions, ...] = ()
    preflight: Preflight | None = None

    @property
    def moments(self) -> tuple[Conditions, ...]:
        return (self.before, *self.between, self.after)


@dataclass(frozen=True)
class Finding:
    code: Code
    reason: str
    verdict: Verdict = "suspect"


def judge(evidence: Evidence, least_processes: int = MIN_PROCESSES) -> Validity:
    """The worst of all findings; their reasons with what makes a run invalid first."""
    found = [
        *_stand_in(evidence),
        *_throttling(evidence),
        *_too_few(evidence, least_processes),
        *_unsteady(evidence),
        *_disturbed(evidence),
    ]
    ordered = sorted(found, key=lambda one: one.verdict != "invalid")
    return Validity(
        ordered[0].verdict if ordered else "valid",
        tuple(one.reason for one in ordered),
        tuple(dict.fromkeys(one.code for one in ordered)),
    )


def _stand_in(evidence: Evidence) -> Iterator[Finding]:
    match evidence.board:
        case "emulated" | "machine":
            yield Finding("emulated", "an emulated board: its latencies say nothing about a device", "invalid")
        case "loopback":
            yield Finding("loopback", "a loopback board: this machine was measured, not the profile's device")
        case None:
            pass


def _throttling(evidence: Evidence) -> Iterator[Finding]:
    """The firmware's bits: 0 to 3 are now, 16 to 19 since boot, so that a new one happened during the run."""
    was, now = evidence.before.throttled or 0, evidence.after.throttled or 0
    for bit, name in enumerate(_THROTTLING):
        if was >> bit & 1:
            when = "before the run"
        elif place := _first_seen(evidence, bit):
            when = place
        elif now >> bit & 1:
            when = "after the run"
        elif (now & ~was) >> (16 + bit) & 1:
            when = "during the run"
        else:
            continue
        yield Finding("throttled", f"the board's firmware reported {name} {when}", "invalid")
    for number, process in enumerate(evidence.processes, 1):
        if slowed := slower_clock(process):
            sample, high, low, ratio = slowed
            yield Finding(
                "throttled",
                f"the clock fell from {high} to {low} MHz at sample {sample} of process {number}, "
                f"and inferences took {ratio - 1:.0%} longer from there on",
                "invalid",
            )


def _first_seen(evidence: Evidence, bit: int) -> str | None:
    for number, process in enumerate(evidence.processes, 1):
        for block in process.blocks:
            if (block.throttled or 0) >> bit & 1:
                return f"during the run, from about sample {block.start} of process {number} on"
    between = [number for number, one in enumerate(evidence.between, 1) if (one.throttled or 0) >> bit & 1]
    return f"after process {between[0]}" if between else None


def slower_clock(process: ProcessRun) -> tuple[int, int, int, float] | None:
    """(sample, MHz before, MHz after, latency after over before) where a process's clock fell and stayed low.

    A clock that is read between blocks may be that of a moment of rest: it counts where inferences became slower with it.
    """
    clocks = [max(block.mhz, default=0) for block in process.blocks]
    for index in range(1, len(clocks)):
        high, low = max(clocks[:index]), max(clocks[index:])
        if not 0 < low < SLOWER_CLOCK * high:
            continue
        start = process.blocks[index].start
        before, after = process.samples_ns[:start], process.samples_ns[start:]
        if not before or not after:
            continue
        ratio = float(np.median(after) / np.median(before))
        return (start, high, low, ratio) if ratio > 1 + MAX_DRIFT else None
    return None


def _too_few(evidence: Evidence, least_processes: int) -> Iterator[Finding]:
    count, summary = len(evidence.processes), evidence.summary
    if count < least_processes:
        plural = "es" if count > 1 else ""
        yield Finding(
            "too-few-samples", f"{count} process{plural}, at least {least_processes} show how much they differ"
        )
    if summary.count < MIN_SAMPLES:
        yield Finding(
            "too-few-samples", f"{summary.count} samples, at least {MIN_SAMPLES} are needed for a 90th percentile"
        )
    low, high = stats.median_interval(sorted(sample for one in evidence.processes for sample in one.samples_ns))
    if (width := (high - low) / summary.p50_ns) > MAX_INTERVAL:
        yield Finding("wide-interval", f"the median's interval is {width:.1%} of it wide, above {MAX_INTERVAL:.0%}")
    if (share := evidence.overhead_ns / summary.p50_ns) > MAX_OVERHEAD:
        yield Finding(
            "overhead",
            f"a model that computes nothing takes {share:.1%} of the median here, above {MAX_OVERHEAD:.0%}: "
            "that much is the runtime's entry and the timing",
        )


def _unsteady(evidence: Evidence) -> Iterator[Finding]:
    if (spread := process_spread(evidence.processes)) > MAX_SPREAD:
        yield Finding(
            "noisy-between-processes",
            f"the medians of the processes differ by {spread:.1%}, above {MAX_SPREAD:.0%}",
        )
    if abs(shift := drift(evidence.processes)) > MAX_DRIFT:
        change = "slower" if shift > 0 else "faster"
        yield Finding(
            "drifting", f"not steady: the last third of a process is {abs(shift):.1%} {change} than its first"
        )
    restless = sum(process.steady is False for process in evidence.processes)
    if 2 * restless > len(evidence.processes):
        yield Finding("drifting", f"not steady: the warm-up of {restless} processes did not settle")
    if modes := two_modes(evidence.processes):
        low, high = modes
        yield Finding(
            "bimodal", f"two modes, around {low / 1e6:.3g} and {high / 1e6:.3g} ms: a single median describes neither"
        )


def _disturbed(evidence: Evidence) -> Iterator[Finding]:
    before, moments = evidence.before, evidence.moments
    allowed = max(0.5, MAX_LOAD * evidence.cores)
    if before.load_1m is not None and before.load_1m > allowed:
        yield Finding("busy", f"the board was busy: load {before.load_1m:.2f} before the run on {evidence.cores} cores")
    elif (busy := evidence.preflight.busy if evidence.preflight else None) is not None and busy > MAX_LOAD:
        yield Finding("busy", f"the board was busy: others used {busy:.0%} of its cores before the run")
    gate = evidence.preflight.gate if evidence.preflight else None
    if gate is not None and not gate.reached:
        yield Finding(
            "hot",
            f"the board did not cool to {gate.wanted_c:g} °C within {gate.waited_s:.0f} s: "
            f"it began at {gate.temperature_c or 0:.0f} °C",
        )
    hottest = max((c.temperature_c for c in moments if c.temperature_c is not None), default=0.0)
    if hottest >= HOT_C:
        yield Finding("hot", f"the board was at {hottest:.0f} °C, where boards lower their clock")
    governors = dict.fromkeys(one.governor for one in moments if one.governor)
    if len(governors) > 1:
        yield Finding("governor-changed", f"the CPU governor changed during the run: {', then '.join(governors)}")
    if "powersave" in governors:
        yield Finding("powersave", "the CPU governor is powersave: the clock stays at its lowest")
    was, now = before.swapped_pages, evidence.after.swapped_pages
    if was is not None and now is not None and now - was > MAX_SWAPPED:
        yield Finding("swapping", f"the board was swapping: {now - was} pages went in or out during the run")


def process_spread(processes: Sequence[ProcessRun]) -> float:
    """(largest − smallest) / smallest of the processes' medians."""
    medians = [stats.percentile(sorted(process.samples_ns), 50) for process in processes]
    return (max(medians) - min(medians)) / min(medians)


def drift(processes: Sequence[ProcessRun]) -> float:
    """How much slower processes end than they begin (0.1 is 10 %), 0 where that could be chance.

    The median over processes of last third over first third; counted when Spearman's correlation of time and latency,
    combined over the processes (Stouffer), is beyond three standard deviations.
    """
    series = [np.asarray(process.samples_ns, np.float64) for process in processes if len(process.samples_ns) >= 9]
    if not series:
        return 0.0
    combined = sum(_spearman_z(times) for times in series) / math.sqrt(len(series))
    if abs(combined) < 3:
        return 0.0
    shifts = [np.median(times[-(len(times) // 3) :]) / np.median(times[: len(times) // 3]) - 1 for times in series]
    return float(np.median(shifts))


def _spearman_z(times: Floats) -> float:
    _, inverse, counts = np.unique(times, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    if ranks.std() == 0:
        return 0.0
    order = np.arange(len(times))
    return float(np.corrcoef(order, ranks)[0, 1]) * math.sqrt(len(times) - 1)


def two_modes(processes: Sequence[ProcessRun]) -> tuple[float, float] | None:
    """The two latencies in ns around which processes themselves alternate, or None.

    Each process's samples over its own 10th percentile (a median would jump between the modes), as logarithms, smoothed by a
    Gaussian kernel with Silverman's bandwidth, which oversmooths two modes: what remains is clear. Two peaks more than 5 %
    apart count when the valley between them is below half the lower one and a tenth of the samples lies on either side.
    """
    series = [np.asarray(process.samples_ns, np.float64) for process in processes]
    levels = [float(np.quantile(times, 0.1)) for times in series]
    logs = np.concatenate([np.log(times / level) for times, level in zip(series, levels, strict=True)])
    if len(logs) < MIN_SAMPLES // 2 or logs.std() == 0:
        return None
    width = max(1.06 * min(logs.std(), _robust_spread(logs)) * len(logs) ** -0.2, 0.005)
    ends = np.quantile(logs, [0.005, 0.995])
    low, high = float(ends[0]) - 3 * width, float(ends[1]) + 3 * width
    grid, density = _smoothed(logs, low, high, width)
    found = _deepest_valley(grid, density, logs)
    scale = float(np.median(levels))
    return None if found is None else (scale * math.exp(found[0]), scale * math.exp(found[1]))


def _smoothed(logs: Floats, low: float, high: float, width: float) -> tuple[Floats, Floats]:
    """A kernel density of binned samples: bins of a sixth of the bandwidth, which binning cannot be told from none."""
    bins = min(4096, max(64, math.ceil(6 * (high - low) / width)))
    counts, edges = np.histogram(logs, bins, (low, high))
    step = (high - low) / bins
    reach = min(bins, math.ceil(4 * width / step))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / width) ** 2)
    density = np.convolve(counts, kernel)[reach : reach + bins]
    return (edges[:-1] + edges[1:]) / 2, density


def _robust_spread(logs: Floats) -> float:
    low, high = np.quantile(logs, [0.25, 0.75])
    return float(high - low) / 1.34 or float(logs.std())


def _deepest_valley(grid: Floats, density: Floats, logs: Floats) -> tuple[float, float] | None:
    inner = density[1:-1]
    peaks = np.flatnonzero((inner >= density[:-2]) & (inner > density[2:])) + 1
    for left, right in pairwise(peaks):
        valley = left + int(np.argmin(density[left : right + 1]))
        share = float(np.mean(logs < grid[valley]))
        deep = density[valley] < 0.5 * min(density[left], density[right])
        if deep and 0.1 <= share <= 0.9 and grid[right] - grid[left] > MAX_SPREAD:
            return float(grid[left]), float(grid[right])
    return None
