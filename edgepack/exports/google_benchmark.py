"""google-benchmark's JSON, schema 1 (google.github.io/benchmark): its `tools/compare.py` reads it.

`cpu_time` is a field that its tools insist on; edgepack times the wall clock alone, so `cpu_time` repeats `real_time`, and the
context says so.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from edgepack.report import Report

_AGGREGATES: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
    ("mean", statistics.fmean),
    ("median", statistics.median),
    ("stddev", lambda values: statistics.stdev(values) if len(values) > 1 else 0.0),
    ("cv", lambda values: statistics.stdev(values) / statistics.fmean(values) if len(values) > 1 else 0.0),
)


def google_benchmark(report: Report) -> str:
    """One benchmark named by the variant: a repetition a process (mean ns of its samples), and google-benchmark's aggregates."""
    means = [statistics.fmean(process.samples_ns) for process in report.processes]
    counts = [len(process.samples_ns) for process in report.processes]
    common = {
        "family_index": 0,
        "per_family_instance_index": 0,
        "run_name": report.variant,
        "repetitions": len(means),
        "threads": report.runtime.threads,
    }
    repetitions = [
        {**common, "name": report.variant, "run_type": "iteration", "repetition_index": index, "iterations": count}
        | _times(mean, "ns")
        for index, (mean, count) in enumerate(zip(means, counts, strict=True))
    ]
    aggregates = [
        {**common, "name": f"{report.variant}_{name}", "run_type": "aggregate", "aggregate_name": name}
        | {"aggregate_unit": "percentage" if name == "cv" else "time", "iterations": len(means)}
        | _times(function(means), "ns")
        for name, function in _AGGREGATES
    ]
    return json.dumps({"context": _context(report), "benchmarks": [*repetitions, *aggregates]}, indent=1) + "\n"


def _times(value: float, unit: str) -> dict[str, Any]:
    return {"real_time": value, "cpu_time": value, "time_unit": unit}


def _context(report: Report) -> dict[str, Any]:
    before = report.run_context.before
    return {
        "date": report.run_context.started,
        "host_name": report.run_context.target,
        "executable": f"{report.bundle.name} {report.bundle.version}",
        "num_cpus": int(report.device.get("cores", 0)),
        "mhz_per_cpu": max(before.mhz, default=0),
        "cpu_scaling_enabled": before.governor not in (None, "performance"),
        "caches": [],
        "load_avg": [] if before.load_1m is None else [before.load_1m],
        "library_version": f"edgepack {report.run_context.edgepack}",
        "library_build_type": "release",
        "json_schema_version": 1,
        "cpu_time": "repeats real_time: only the wall clock was read",
        "verdict": report.validity.verdict,
        "runtime": f"{report.runtime.name} {report.runtime.version}",
    }
