"""Samples to a summary, and the comparison of two runs. Pure.

A process is the unit of repetition: samples of one process share its memory layout and its moment, so that thousands of them say
nothing of what the next process would measure (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, 2013).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgepack.report import (
    Comparison,
    ProcessRun,
    Report,
    Summary,
    Validity,
    Verdict,
)

Floats = NDArray[np.float64]

_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
"""Student's t, 97.5 %, for 1, 2, … degrees of freedom."""
_Z975 = 1.960


def summarize(processes: Sequence[ProcessRun]) -> Summary:
    """Over the samples of all processes; there must be at least one. Percentiles by nearest rank: each is a sample."""
    samples = sorted(sample for process in processes for sample in process.samples_ns)
    interval = _interval_of_all([process for process in processes if process.samples_ns], samples)
    return Summary(
        p50_ns=percentile(samples, 50),
        p90_ns=percentile(samples, 90),
        p99_ns=percentile(samples, 99),
        mean_ns=round(sum(samples) / len(samples)),
        minimum_ns=samples[0],
        maximum_ns=samples[-1],
        count=len(samples),
        p50_interval_ns=interval,
    )


def _interval_of_all(processes: Sequence[ProcessRun], ordered: Sequence[int]) -> tuple[int, int]:
    """The median's 95 % interval, for another set of processes too.

    Order statistics of all samples together would be too narrow where processes differ from one another, which thousands of
    samples of a few of them cannot tell: from two processes on, Student's interval of their medians' logarithms is covered too.
    """
    low, high = median_interval(ordered)
    if len(processes) > 1:
        logs = np.log([percentile(sorted(process.samples_ns), 50) for process in processes])
        reach = _t975(len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
        low = min(low, round(math.exp(float(logs.mean()) - reach)))
        high = max(high, round(math.exp(float(logs.mean()) + reach)))
    return max(low, ordered[0]), min(high, ordered[-1])


def _t975(freedom: int) -> float:
    return _T975[freedom - 1] if freedom <= len(_T975) else _Z975 + (_Z975**3 + _Z975) / (4 * freedom)


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
    return error, _t975(freedom)


def compare_pairs(before: Report, after: Report, margin: float) -> Comparison:
    """As `compare`, of two runs whose processes took turns: A B B A.

    The interval is Student's over the logarithms of the ratios of neighbours: what changes slowly falls on both of a pair and
    goes out. Raises ValueError where there are not as many processes on both sides, two at least.
    """
    whole = compare(before, after, margin)
    ratios = np.log([_median(b) / _median(a) for a, b in zip(before.processes, after.processes, strict=True)])
    if len(ratios) < 2:
        raise ValueError("a pair of runs needs two processes on each side at least")
    within = (_log_medians(before).within + _log_medians(after).within) / len(ratios)
    error = math.sqrt(max(float(ratios.var(ddof=1)) / len(ratios), within))
    middle, reach = float(ratios.mean()), _t975(len(ratios) - 1) * error
    ratio, low, high = math.exp(middle), math.exp(middle - reach), math.exp(middle + reach)
    return msgspec.structs.replace(
        whole,
        ratio=ratio,
        interval=(low, high),
        verdict="slower" if low > 1 else "faster" if high < 1 else "same",
        regression=low > 1 and ratio > 1 + margin,
        excluded=high <= 1 + margin,
    )


def _median(process: ProcessRun) -> int:
    return percentile(sorted(process.samples_ns), 50)


def _weaknesses(before: Report, after: Report) -> list[str]:
    reasons = []
    pairs = (
        ("targets", before.run_context.target, after.run_context.target),
        ("runtimes", before.runtime.name, after.runtime.name),
        ("numbers of threads", str(before.runtime.threads), str(after.runtime.threads)),
        ("kinds of input", before.protocol.inputs, after.protocol.inputs),
    )
    reasons += [f"measured with different {what}: {a} and {b}" for what, a, b in pairs if a != b]
    old, new = _doubts(before), _doubts(after)
    reasons += [f"both: {reason}" for reason in old if reason in new]
    reasons += [f"before: {reason}" for reason in old if reason not in new]
    reasons += [f"after: {reason}" for reason in new if reason not in old]
    return reasons


def _doubts(report: Report) -> list[str]:
    alone = ["one process, so that nothing is known of how much processes differ"] if len(report.processes) < 2 else []
    return [*alone, *report.validity.reasons]


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
            tuple(dict.fromkeys((*first.validity.codes, *second.validity.codes))),
        ),
        notes=(*first.notes, *second.notes),
    )


def _worse(a: Verdict, b: Verdict) -> Verdict:
    return max(a, b, key=("valid", "suspect", "invalid").index)
