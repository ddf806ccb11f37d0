"""Benchmarks whose truth is known, because they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgepack.report import ProcessRun


def run_of(times: Sequence[float]) -> ProcessRun:
    ns = tuple(max(1, round(time)) for time in times)
    return ProcessRun(import_ns=1, load_ns=1, first_ns=1, warm_ns=(), samples_ns=ns, vmhwm_kb=1)


def steady(seed: int, processes: int = 5, count: int = 60, level: float = 5e6, noise: float = 0.01) -> list[ProcessRun]:
    """Processes on a quiet board: right-skewed noise as latencies have it, 0.5 % between processes."""
    random = np.random.default_rng(seed)
    return [
        run_of(level * math.exp(random.normal(0, 0.005)) * (1 + noise * random.gamma(2, 0.5, count)))
        for _ in range(processes)
    ]
