"""A benchmark report: raw samples, a summary with intervals, the conditions, and a verdict on validity."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from edgepack.digest import Digest
from edgepack.errors import InputError

SCHEMA = "edgepack.report/1"
Verdict = Literal["valid", "suspect", "invalid"]


class BundleRef(Struct, frozen=True):
    name: str
    version: str
    digest: Digest


class RuntimeRef(Struct, frozen=True):
    name: str
    version: str
    threads: int
    lock: Digest | None


class ProcessRun(Struct, frozen=True, kw_only=True):
    """One fresh process on the board. Times in nanoseconds from its own monotonic clock; vmhwm_kb: peak resident set, KiB.

    import_ns: importing the runtime; load_ns: opening the model; first_ns: first inference; warm_ns, samples_ns: one each
    """

    import_ns: int
    load_ns: int
    first_ns: int
    warm_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    vmhwm_kb: int
    baseline_kb: int = 0


class Conditions(Struct, frozen=True, kw_only=True):
    """What the board said of itself before and after the run. None: the board does not tell."""

    governor: str | None = None
    mhz: tuple[int, ...] = ()
    temperature_c: float | None = None
    throttled: int | None = None
    load_1m: float | None = None
    memory_available_kb: int | None = None


class Summary(Struct, frozen=True):
    """Over the samples of all processes. p50_interval_ns: order-statistic confidence interval of the median, 95 %."""

    p50_ns: int
    p90_ns: int
    p99_ns: int
    mean_ns: int
    minimum_ns: int
    maximum_ns: int
    count: int
    p50_interval_ns: tuple[int, int]


class Validity(Struct, frozen=True):
    verdict: Verdict
    reasons: tuple[str, ...]


class BenchProtocol(Struct, frozen=True, kw_only=True):
    """How to measure. warmup: runs before the first sample of a process; inputs: `golden` samples or `seeded` noise."""

    processes: int = 3
    warmup: int = 5
    samples: int = 50
    threads: int = 1
    seconds: float = 30.0
    inputs: Literal["golden", "seeded"] = "golden"


class RunContext(Struct, frozen=True, kw_only=True):
    """started: RFC 3339; edgepack: its version; target: by name"""

    target: str
    started: str
    edgepack: str
    before: Conditions
    after: Conditions


class Report(Struct, frozen=True, kw_only=True):
    """device: the board's facts as it told them; harness_overhead_ns: one timed call of nothing on that board."""

    schema: str = SCHEMA
    bundle: BundleRef
    variant: str
    runtime: RuntimeRef
    device: dict[str, Any]
    run_context: RunContext
    protocol: BenchProtocol
    processes: tuple[ProcessRun, ...]
    summary: Summary
    harness_overhead_ns: int
    ops: tuple[Any, ...] = ()
    validity: Validity
    notes: tuple[str, ...] = field(default=())


class Comparison(Struct, frozen=True, kw_only=True):
    """Two reports of one board, the second over the first.

    ratio, interval: of the medians, with its 95 % confidence interval; p90_ratio: of the 90th percentiles
    verdict: `faster` or `slower` where the interval excludes 1, else `same`: no difference was shown
    regression: slower, and by more than `margin` (0.05 is 5 %)
    excluded: the interval rules out that it got slower by more than `margin`
    validity: the worse of the two reports'; reasons: what weakens the comparison
    """

    before: str
    after: str
    ratio: float
    interval: tuple[float, float]
    p90_ratio: float
    margin: float
    verdict: Literal["faster", "slower", "same"]
    regression: bool
    excluded: bool
    validity: Verdict
    reasons: tuple[str, ...]


def decode(data: bytes, file: str) -> Report:
    """Parse a report. Raises InputError naming `file`."""
    import msgspec

    try:
        return msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not a report of edgepack bench --json: {error}") from None
