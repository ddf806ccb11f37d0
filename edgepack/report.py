"""A benchmark report: raw samples, a summary with intervals, the conditions, and a verdict on validity."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.trials import Accuracy, Scenario
from edgepack.work import Work

SCHEMA = "edgepack.report/1"
Verdict = Literal["valid", "suspect", "invalid"]
Code = Literal[
    "emulated",
    "loopback",
    "throttled",
    "governor-changed",
    "swapping",
    "too-few-samples",
    "wide-interval",
    "overhead",
    "noisy-between-processes",
    "drifting",
    "bimodal",
    "busy",
    "hot",
    "powersave",
]
"""Why a verdict is not `valid`; docs/benchmarking.md says what each means and what to do."""


class BundleRef(Struct, frozen=True):
    name: str
    version: str
    digest: Digest


class RuntimeRef(Struct, frozen=True):
    """build: what the runtime's library says of itself; delegates: what computed instead of the runtime's own kernels"""

    name: str
    version: str
    threads: int
    lock: Digest | None
    build: str = ""
    delegates: tuple[str, ...] = ()


class Block(Struct, frozen=True, kw_only=True):
    """What the board said before a block of timed inferences. None: it does not tell.

    start: index of the block's first sample; at_ns: since the first block; throttled: the firmware's bits
    """

    start: int
    at_ns: int
    temperature_c: float | None = None
    mhz: tuple[int, ...] = ()
    throttled: int | None = None
    load_1m: float | None = None


class ProcessRun(Struct, frozen=True, kw_only=True):
    """One fresh process on the board. Times in nanoseconds from its own monotonic clock; vmhwm_kb: peak resident set, KiB.

    import_ns: importing the runtime; load_ns: opening the model; first_ns: first inference; samples_ns: one each
    warm_ns: the first of the warm-up's inferences; warm_count: how many there were; steady: whether they settled
    baseline_kb: peak resident set before the model was opened; blocks: the board's state, read between timed inferences
    """

    import_ns: int
    load_ns: int
    first_ns: int
    warm_ns: tuple[int, ...]
    samples_ns: tuple[int, ...]
    vmhwm_kb: int
    baseline_kb: int = 0
    warm_count: int = 0
    steady: bool | None = None
    blocks: tuple[Block, ...] = ()


class Conditions(Struct, frozen=True, kw_only=True):
    """What the board said of itself at one moment. None: the board does not tell.

    governors: of every core, where they differ; mhz: of each core now; mhz_limits: lowest and highest that core 0 may run at
    temperature_c: of the CPU, else of the hottest zone; temperatures_c: of every zone
    throttled: the firmware's bits; undervoltage: the supply is below its limit now, by the firmware or the voltage sensor
    power: `battery` or `mains`, where the board knows; page_cache_kb: files held in memory
    swapped_pages: in and out since boot; uptime_s: since boot
    """

    governor: str | None = None
    mhz: tuple[int, ...] = ()
    temperature_c: float | None = None
    throttled: int | None = None
    load_1m: float | None = None
    memory_available_kb: int | None = None
    governors: tuple[str, ...] = ()
    mhz_limits: tuple[int, ...] = ()
    temperatures_c: dict[str, float] = field(default_factory=dict)
    undervoltage: bool | None = None
    power: str | None = None
    page_cache_kb: int | None = None
    swapped_pages: int | None = None
    uptime_s: int | None = None


class Gate(Struct, frozen=True, kw_only=True):
    """The wait for a cool board before each process. reached: whether it was that cool when the deadline came"""

    wanted_c: float
    waited_s: float
    temperature_c: float | None
    reached: bool


class Preflight(Struct, frozen=True, kw_only=True):
    """What was looked at before anything was measured.

    busy: share of all cores that others used, 0 to 1; kernel: its release and build; firmware: of the board
    cpus: that a process may run on; gate: the wait for a cool board, null where there was none
    """

    busy: float | None = None
    kernel: str = ""
    firmware: str = ""
    cpus: tuple[int, ...] = ()
    gate: Gate | None = None


class Summary(Struct, frozen=True):
    """Over the samples of all processes. p50_interval_ns: 95 % confidence interval of the median, for another five processes too.

    It covers the order-statistic interval of all samples and, from two processes on, what the processes' medians say.
    """

    p50_ns: int
    p90_ns: int
    p99_ns: int
    mean_ns: int
    minimum_ns: int
    maximum_ns: int
    count: int
    p50_interval_ns: tuple[int, int]


class Validity(Struct, frozen=True):
    """reasons: sentences; codes: the same for programs, each once"""

    verdict: Verdict
    reasons: tuple[str, ...]
    codes: tuple[Code, ...] = ()


class BenchProtocol(Struct, frozen=True, kw_only=True):
    """How to measure.

    processes: fresh ones, one after the other; threads: of the runtime; inputs: `golden` samples or `seeded` noise
    warmup, warm_seconds: a process warms up for at least so many runs and so long, and on until it is steady
    samples, least_seconds: so many timed inferences for so long, at least, and on until the median is known to `precision`
    most_samples, seconds: where a process ends all the same
    precision: width of the 95 % interval of a process's median, over that median; batch: samples in one inference
    pin: cores to run on, all where empty; governor: set for the run and restored after it, as it is where empty
    cool_to_c, cool_seconds: wait until the board is that cool, at most so long in all; 0: do not wait
    sweep_threads, sustained_seconds, cold, ops, energy: passes of their own, beside the headline
    """

    processes: int = 5
    warmup: int = 5
    samples: int = 50
    threads: int = 1
    seconds: float = 30.0
    inputs: Literal["golden", "seeded"] = "golden"
    warm_seconds: float = 0.3
    least_seconds: float = 0.5
    most_samples: int = 5000
    precision: float = 0.02
    batch: int = 1
    pin: tuple[int, ...] = ()
    governor: str = ""
    cool_to_c: float = 70.0
    cool_seconds: float = 60.0
    sweep_threads: bool = False
    sustained_seconds: float = 0.0
    cold: bool = False
    ops: bool = False
    energy: bool = False


class SweepPoint(Struct, frozen=True, kw_only=True):
    """One number of threads. interval_ns: of the median, 95 %; throughput_per_s: samples that one caller gets through"""

    threads: int
    p50_ns: int
    p90_ns: int
    interval_ns: tuple[int, int]
    throughput_per_s: float
    verdict: Verdict


class Minute(Struct, frozen=True, kw_only=True):
    """One minute of a sustained load, 0 the first. count: inferences in it; temperature_c, mhz: at its end"""

    minute: int
    p50_ns: int
    p90_ns: int
    count: int = 0
    temperature_c: float | None = None
    mhz: tuple[int, ...] = ()
    throttled: int | None = None


class ColdStart(Struct, frozen=True, kw_only=True):
    """The first inference of a fresh process. page_cache: `cold` where the model's file and the runtime's libraries were dropped
    from memory before, as the kernel confirmed; else `warm`, for the reason in `note`
    """

    import_ns: int
    load_ns: int
    first_ns: int
    page_cache: Literal["cold", "warm"]
    note: str = ""


class Operator(Struct, frozen=True, kw_only=True):
    """An operator, in a pass of its own.

    ns: in one inference, the mean of the middle half of them; share: of what all operators take; calls: in one inference
    """

    name: str
    kind: str
    ns: int
    share: float
    calls: int


class Energy(Struct, frozen=True, kw_only=True):
    """A pass of its own under continuous load. source: which sensor and what it covers; watts: mean; seconds: of the pass"""

    source: str
    joules_per_inference: float
    watts: float
    seconds: float = 0.0
    inferences: int = 0


class RunContext(Struct, frozen=True, kw_only=True):
    """started: RFC 3339; edgepack: its version; target: by name; between: one after each process but the last"""

    target: str
    started: str
    edgepack: str
    before: Conditions
    after: Conditions
    between: tuple[Conditions, ...] = ()
    preflight: Preflight | None = None


class Report(Struct, frozen=True, kw_only=True):
    """device: the board's facts as it told them; notes: what else is to be known of this run.

    harness_overhead_ns: a model that computes nothing, in the same runtime on that board, timed as the samples are
    sweep, sustained, cold, ops, energy: passes of their own, where they were asked for
    scenario: a load as LoadGen makes it; accuracy: known samples, answered there and here
    work: what the variant computes, counted on its file; null where the host could not read it
    """

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
    validity: Validity
    notes: tuple[str, ...] = field(default=())
    sweep: tuple[SweepPoint, ...] = ()
    sustained: tuple[Minute, ...] = ()
    cold: ColdStart | None = None
    ops: tuple[Operator, ...] = ()
    energy: Energy | None = None
    scenario: Scenario | None = None
    accuracy: Accuracy | None = None
    work: Work | None = None


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


class Pair(Struct, frozen=True):
    """Two that took turns on one board, and the second over the first."""

    reports: tuple[Report, Report]
    comparison: Comparison


def decode(data: bytes, file: str) -> Report:
    """Parse a report. Raises InputError naming `file` and the key that is wrong."""
    import msgspec

    try:
        found = msgspec.json.decode(data, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = _schema(data) or SCHEMA
        raise (_broken(file, str(error)) if said == SCHEMA else _foreign(file, said)) from None
    return check(found, file)


def check(report: Report, file: str) -> Report:
    """The report itself. Raises InputError naming `file` where its shape is right and its contents cannot be."""
    if report.schema != SCHEMA:
        raise _foreign(file, report.schema)
    if not report.processes:
        raise _broken(file, "it has no processes")
    for number, process in enumerate(report.processes):
        if min(process.samples_ns, default=0) < 1:
            raise _broken(file, f"processes[{number}].samples_ns: not one positive number of nanoseconds or more")
        starts = [block.start for block in process.blocks]
        if starts != sorted(starts) or not all(0 <= start <= len(process.samples_ns) for start in starts):
            raise _broken(file, f"processes[{number}].blocks: they do not start at samples of it, one after the other")
    if min(report.summary.p50_ns, report.summary.p90_ns, *report.summary.p50_interval_ns) < 1:
        raise _broken(file, "summary: a latency that is not positive")
    for key, kind in (("cores", int), ("cpu_features", list)):
        if key in report.device and not isinstance(report.device[key], kind):
            raise _broken(file, f"device.{key}: {report.device[key]!r}, which a board does not say")
    return report


class _Said(Struct):
    schema: str = ""


def _schema(data: bytes) -> str:
    """What a document says that it is; empty where it says nothing, or is none."""
    import msgspec

    try:
        return msgspec.json.decode(data, type=_Said).schema
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _foreign(file: str, said: str) -> InputError:
    return InputError(
        f"{file}: its schema is {said!r}",
        expected=SCHEMA,
        advice="measure again with this edgepack, or read it with the one that wrote it",
    )


def _broken(file: str, why: str) -> InputError:
    return InputError(
        f"{file}: not a report of edgepack bench: {why}",
        expected="what edgepack bench --json prints of one board, or --out and the history keep, unchanged",
        advice="measure again: edgepack bench BUNDLE TARGET --out FOLDER",
    )
