"""LoadGen's early stopping and percentiles, computed on samples that LoadGen did not take. Pure.

The rule (MLPerf inference rules, "Early stopping"; mlcommons/inference loadgen/early_stopping.cc): of n queries, t over a latency
show with 99 % confidence that the p-th percentile lies below it when a binomial of n throws with chance 1 − p has at most t hits
with a probability below 1 %. The tests hold these functions against the real LoadGen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.99


def chance(n: int, over: int, percentile: float) -> float:
    """The probability of at most `over` queries over the latency among n, where each is with probability 1 − percentile."""
    log_over, log_under = math.log(1 - percentile), math.log(percentile)
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_over + (n - k) * log_under
        for k in range(min(over, n) + 1)
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def least_queries(percentile: float, over: int = 1) -> int:
    """How many queries are needed, `over` of them over the latency: 64, 130 and 662 for the 90th, 95th and 99th percentile."""
    low, high = over, over + 1
    while chance(high, over, percentile) >= 1 - CONFIDENCE:
        low, high = high, over + 2 * (high - over)
    while high - low > 1:
        middle = (low + high) // 2
        if chance(middle, over, percentile) < 1 - CONFIDENCE:
            high = middle
        else:
            low = middle
    return high


def allowed_over(n: int, percentile: float) -> int:
    """The most queries that may be over the latency among n; −1 where n is too few even with none over."""
    log_over, log_under = math.log(1 - percentile), math.log(percentile)
    total = 0.0
    for k in range(n + 1):
        total += math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * log_over + (n - k) * log_under
        )
        if total >= 1 - CONFIDENCE:
            return k - 1
    return n


def percentile_estimate(ordered: Sequence[int], percentile: float) -> int | None:
    """The latency that the percentile of the system stays below, with 99 % confidence, from sorted latencies.

    None where there are fewer queries than `least_queries`. Never below the percentile of the samples.
    """
    over = allowed_over(len(ordered), percentile)
    return ordered[len(ordered) - over] if over >= 1 else None


def sample_percentile(ordered: Sequence[int], percentile: float) -> int:
    """LoadGen's percentile of sorted latencies: the one at index ⌊n · percentile⌋."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percentile))]
