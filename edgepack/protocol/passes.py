"""What the agent is asked when a release is measured, and what it answers: benchmarks, loads, known samples."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgepack.profile import RuntimeName
from edgepack.report import BenchProtocol, ColdStart, Conditions, Energy, Minute, Operator, Preflight, ProcessRun
from edgepack.trials import Load


class BenchRequest(Struct, frozen=True, kw_only=True):
    """release: the bundle digest of an installed release; variant: one of its variants, empty for its default"""

    name: str
    release: str
    variant: str
    protocol: BenchProtocol


class Candidate(Struct, frozen=True, kw_only=True):
    """One side of a comparison on the board: an installed release and one of its variants, empty for its default"""

    name: str
    release: str
    variant: str


class PairRequest(Struct, frozen=True, kw_only=True):
    """Measure two in turns, A B B A, each process fresh."""

    first: Candidate
    second: Candidate
    protocol: BenchProtocol


class Beat(Struct, frozen=True, kw_only=True):
    """How far a benchmark on a board is: one a block, at most a few a second, while it runs.

    stage: what is being done; process: 1, 2, … of `processes`; block: of that process; samples: of that process so far
    p50_ns: median of the block's samples, None where there are none yet
    """

    target: str = ""
    variant: str = ""
    stage: Literal["cooling", "starting", "warming", "timing", "sweep", "sustained", "cold", "ops", "energy"]
    process: int
    processes: int
    block: int = 0
    samples: int = 0
    p50_ns: int | None = None
    temperature_c: float | None = None
    mhz: tuple[int, ...] = ()


class SweepRun(Struct, frozen=True, kw_only=True):
    threads: int
    processes: tuple[ProcessRun, ...]


class BenchReply(Struct, frozen=True, kw_only=True):
    """harness_overhead_ns: as in a report; notes: what a pass could not tell, and why"""

    variant: str
    runtime: RuntimeName
    runtime_version: str
    lock: str
    processes: tuple[ProcessRun, ...]
    harness_overhead_ns: int
    before: Conditions
    after: Conditions
    build: str = ""
    delegates: tuple[str, ...] = ()
    between: tuple[Conditions, ...] = ()
    preflight: Preflight | None = None
    sweep: tuple[SweepRun, ...] = ()
    sustained: tuple[Minute, ...] = ()
    cold: ColdStart | None = None
    ops: tuple[Operator, ...] = ()
    energy: Energy | None = None
    notes: tuple[str, ...] = ()


class ScenarioRequest(Struct, frozen=True, kw_only=True):
    """release, variant: as in `BenchRequest`"""

    name: str
    release: str
    variant: str
    load: Load


class ScenarioReply(Struct, frozen=True, kw_only=True):
    """latencies_ns: of each query in order, or of each sample (Offline); taken_ns: from the first query to the last answer"""

    variant: str
    runtime_version: str
    latencies_ns: tuple[int, ...]
    taken_ns: int


class AccuracyRequest(Struct, frozen=True, kw_only=True):
    """release, variant: as in `BenchRequest`; blob: digest of an `.npz` of `input_N` that was sent; seconds: at most"""

    name: str
    release: str
    variant: str
    blob: str
    threads: int = 1
    seconds: float = 600.0


class AccuracyReply(Struct, frozen=True, kw_only=True):
    """outputs: an `.npz` of `output_N`, one row a sample, in base64"""

    variant: str
    runtime_version: str
    outputs: str


class PairReply(Struct, frozen=True, kw_only=True):
    first: BenchReply
    second: BenchReply
