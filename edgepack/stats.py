"""Samples to a summary, a verdict on whether it can be trusted, and the comparison of two runs. Pure.

A process is the unit of repetition: samples of one process share its memory layout and its moment, so that thousands of them say
nothing of what the next process would measure (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepack.report import (
    Comparison,
    Conditions,
    ProcessRun,
    Report,
    Summary,
    Validity,
    Verdict,
)
from edgepack.target import BoardKind

Floats = NDArray[np.float64]

MAX_SPREAD = 0.05
"""Between process medians. Published tables of Raspberry Pis vary by 1.1 % at the median, 3.5 % at the 90th percentile."""
MAX_DRIFT = 0.03
MAX_OVERHEAD = 0.01
MAX_INTERVAL = 0.02
MIN_PROCESSES = 3
MIN_SAMPLES = 64
"""LoadGen's minimum for a 90th percentile with one query over the latency."""
MAX_LOAD = 0.25
"""Of the cores, before the run."""
HOT_C = 80.0
"""Where a Raspberry Pi begins to lower its clock."""
_THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t, 97.5 %, for 1, 2, … degrees of freedom."""
_Z975 = 1.960


@dataclass(frozen=True)
class Evidence:
    """All that a verdict rests on. board: set where edgepack started the board itself; cores: of the board."""

    processes: tuple[ProcessRun, ...]
    summary: Summary
    overhead_ns: int
    before: Conditions
    after: Conditions
    board: BoardKind | None
    cores: int


def summarize(processes: Sequence[ProcessRun]) -> Summary:
    """Over the samples of all processes; there must be at least one. Percentiles by nearest rank: each is a sample."""
    samples = sorted(sample for process in processes for sample in process.samples_ns)
    return Summary(
        p50_ns=percentile(samples, 50),
        p90_ns=percentile(samples, 90),
        p99_ns=percentile(samples, 99),
        mean_ns=round(sum(samples) / len(samples)),
        minimum_ns=samples[0],
        maximum_ns=samples[-1],
        count=len(samples),
        p50_interval_ns=median_interval(samples),
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest sample that at least `percent` % of the sorted samples do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def median_interval(ordered: Sequence[int]) -> tuple[int, int]:
    """The median's 95 % confidence interval from the order statistics of sorted samples, whatever their distribution.

    The k-th smallest and k-th largest with the largest k where a fair coin shows fewer than k heads in n throws with at most
    2.5 %. Under six samples no such k exists: smallest and largest, which cover less.
    """
    n = len(ordered)
    below, term, k = 0.0, -n * math.log(2), 0
    while k < n // 2:
        below += math.exp(term)
        if below > 0.025:
            break
        term += math.log(n - k) - math.log(k + 1)
        k += 1
    return ordered[max(0, k - 1)], ordered[n - max(1, k)]


def judge(evidence: Evidence) -> Validity:
    """Whether the numbers say something about the device, and every reason why not."""
    invalid = [*_not_a_device(evidence), *_throttling(evidence.before, evidence.after)]
    suspect = [*_this_machine(evidence), *_too_few(evidence), *_unsteady(evidence), *_disturbed(evidence)]
    verdict: Verdict = "invalid" if invalid else "suspect" if suspect else "valid"
    return Validity(verdict, (*invalid, *suspect))


def _not_a_device(evidence: Evidence) -> list[str]:
    if evidence.board not in ("emulated", "machine"):
        return []
    return ["an emulated board: its latencies say nothing about a device"]


def _this_machine(evidence: Evidence) -> list[str]:
    if evidence.board != "loopback":
        return []
    return ["a loopback board: this machine was measured, not the profile's device"]


def _throttling(before: Conditions, after: Conditions) -> list[str]:
    """The firmware's bits: 0 to 3 are now, 16 to 19 since boot, so that a new one happened during the run."""
    was, now = before.throttled or 0, after.throttled or 0
    reasons = []
    for bit, name in enumerate(_THROTTLING):
        if (was | now) >> bit & 1:
            reasons.append(f"the board's firmware reported {name} {'before' if was >> bit & 1 else 'after'} the run")
        elif (now & ~was) >> (16 + bit) & 1:
            reasons.append(f"the board's firmware reported {name} during the run")
    return reasons


def _too_few(evidence: Evidence) -> list[str]:
    reasons = []
    count, summary = len(evidence.processes), evidence.summary
    if count < MIN_PROCESSES:
        reasons.append(
            f"{count} process{'es' if count > 1 else ''}, at least {MIN_PROCESSES} show how much they differ"
        )
    if summary.count < MIN_SAMPLES:
        reasons.append(f"{summary.count} samples, at least {MIN_SAMPLES} are needed for a 90th percentile")
    low, high = summary.p50_interval_ns
    if (width := (high - low) / summary.p50_ns) > MAX_INTERVAL:
        reasons.append(f"the median's interval is {width:.1%} of it wide, above {MAX_INTERVAL:.0%}")
    if (share := evidence.overhead_ns / summary.p50_ns) > MAX_OVERHEAD:
        reasons.append(f"timing itself takes {share:.1%} of the median, above {MAX_OVERHEAD:.0%}")
    return reasons


def _unsteady(evidence: Evidence) -> list[str]:
    reasons = []
    if (spread := process_spread(evidence.processes)) > MAX_SPREAD:
        reasons.append(f"the medians of the processes differ by {spread:.1%}, above {MAX_SPREAD:.0%}")
    if abs(shift := drift(evidence.processes)) > MAX_DRIFT:
        change = "slower" if shift > 0 else "faster"
        reasons.append(f"not steady: the last third of a process is {abs(shift):.1%} {change} than its first")
    if modes := two_modes(evidence.processes):
        low, high = modes
        reasons.append(f"two modes, around {low / 1e6:.3g} and {high / 1e6:.3g} ms: a single median describes neither")
    return reasons


def _disturbed(evidence: Evidence) -> list[str]:
    reasons = []
    before, after = evidence.before, evidence.after
    allowed = max(0.5, MAX_LOAD * evidence.cores)
    if before.load_1m is not None and before.load_1m > allowed:
        reasons.append(f"the board was busy: load {before.load_1m:.2f} before the run on {evidence.cores} cores")
    hottest = max((c.temperature_c for c in (before, after) if c.temperature_c is not None), default=0.0)
    if hottest >= HOT_C:
        reasons.append(f"the board was at {hottest:.0f} °C, where boards lower their clock")
    if "powersave" in (before.governor, after.governor):
        reasons.append("the CPU governor is powersave: the clock stays at its lowest")
    return reasons


def process_spread(processes: Sequence[ProcessRun]) -> float:
    """(largest − smallest) / smallest of the processes' medians."""
    medians = [percentile(sorted(process.samples_ns), 50) for process in processes]
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
    grid = np.linspace(float(ends[0]) - 3 * width, float(ends[1]) + 3 * width, 256)
    density = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / width) ** 2).sum(axis=1)
    found = _deepest_valley(grid, density, logs)
    scale = float(np.median(levels))
    return None if found is None else (scale * math.exp(found[0]), scale * math.exp(found[1]))


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


def compare(before: Report, after: Report, margin: float) -> Comparison:
    """The ratio of the medians, after over before, with its 95 % confidence interval.

    With two processes or more on each side: Welch's t interval of the difference of the mean logarithms of the process medians.
    """
    a, b = _log_medians(before), _log_medians(after)
    error, reach = _difference_error(a, b)
    middle = float(b.logs.mean() - a.logs.mean())
    low, high = math.exp(middle - reach * error), math.exp(middle + reach * error)
    ratio = math.exp(middle)
    return Comparison(
        before=_title(before),
        after=_title(after),
        ratio=ratio,
        interval=(low, high),
        p90_ratio=after.summary.p90_ns / before.summary.p90_ns,
        margin=margin,
        verdict="slower" if low > 1 else "faster" if high < 1 else "same",
        regression=low > 1 and ratio > 1 + margin,
        excluded=high <= 1 + margin,
        validity=_worse(before.validity.verdict, after.validity.verdict),
        reasons=tuple(_weaknesses(before, after)),
    )


@dataclass(frozen=True)
class _Medians:
    """logs: of each process's median; within: variance of one such logarithm from the samples inside its process."""

    logs: Floats
    within: float

    @property
    def variance(self) -> float:
        """Of the mean. Two medians may agree by chance or by a coarse clock: never below what single processes know."""
        count = len(self.logs)
        between = float(self.logs.var(ddof=1)) if count > 1 else 0.0
        return max(between, self.within) / count


def _log_medians(report: Report) -> _Medians:
    ordered = [sorted(process.samples_ns) for process in report.processes]
    intervals = [median_interval(samples) for samples in ordered]
    within = [(math.log(high / low) / (2 * _Z975)) ** 2 for low, high in intervals]
    return _Medians(np.log([percentile(samples, 50) for samples in ordered]), sum(within) / len(within))


def _difference_error(a: _Medians, b: _Medians) -> tuple[float, float]:
    """The standard error of the difference of two means, and how many of it reach 97.5 %."""
    error = math.sqrt(a.variance + b.variance)
    if len(a.logs) < 2 or len(b.logs) < 2 or error == 0:
        return error, _Z975
    parts = a.variance**2 / (len(a.logs) - 1) + b.variance**2 / (len(b.logs) - 1)
    freedom = int((a.variance + b.variance) ** 2 / parts + 1e-9)
    return error, _T975[freedom - 1] if freedom <= len(_T975) else _Z975 + (_Z975**3 + _Z975) / (4 * freedom)


def _weaknesses(before: Report, after: Report) -> list[str]:
    reasons = []
    pairs = (
        ("targets", before.run_context.target, after.run_context.target),
        ("runtimes", before.runtime.name, after.runtime.name),
        ("numbers of threads", str(before.runtime.threads), str(after.runtime.threads)),
        ("kinds of input", before.protocol.inputs, after.protocol.inputs),
    )
    reasons += [f"measured with different {what}: {a} and {b}" for what, a, b in pairs if a != b]
    for report in (before, after):
        if len(report.processes) < 2:
            reasons.append(f"{_title(report)}: one process, so that nothing is known of how much processes differ")
        reasons += [f"{_title(report)}: {reason}" for reason in report.validity.reasons]
    return reasons


def _title(report: Report) -> str:
    return f"{report.bundle.name} {report.bundle.version} ({report.variant}) on {report.run_context.target}"


def pool(first: Report, second: Report) -> Report:
    """Two reports of one release on one board as one: all processes, the worse verdict with every reason."""
    processes = (*first.processes, *second.processes)
    return msgspec.structs.replace(
        first,
        processes=processes,
        summary=summarize(processes),
        harness_overhead_ns=max(first.harness_overhead_ns, second.harness_overhead_ns),
        run_context=msgspec.structs.replace(first.run_context, after=second.run_context.after),
        validity=Validity(
            _worse(first.validity.verdict, second.validity.verdict),
            tuple(dict.fromkeys((*first.validity.reasons, *second.validity.reasons))),
        ),
        notes=(*first.notes, *second.notes),
    )


def _worse(a: Verdict, b: Verdict) -> Verdict:
    return max(a, b, key=("valid", "suspect", "invalid").index)
