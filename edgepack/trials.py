"""What a model is put through beside the headline: a load as LoadGen makes it, and samples whose answers are known."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

ScenarioKind = Literal["SingleStream", "MultiStream", "Server", "Offline"]


class Load(Struct, frozen=True, kw_only=True):
    """How queries are issued.

    kind: one after the other (SingleStream), one after the other with several samples each (MultiStream), as they arrive at
    random (Server), all at once (Offline)
    seconds: how long, at least; most_seconds: where it ends all the same; least_queries: how many, at least
    samples_per_query: of MultiStream; target_qps: arrivals a second of Server; seed: of arrivals and of which sample is asked
    """

    kind: ScenarioKind
    seconds: float = 10.0
    most_seconds: float = 600.0
    least_queries: int = 1
    samples_per_query: int = 1
    target_qps: float = 0.0
    threads: int = 1
    seed: int = 0
    inputs: Literal["golden", "seeded"] = "golden"


class EarlyStopping(Struct, frozen=True, kw_only=True):
    """LoadGen's early stopping rule at 99 % confidence.

    met: there were queries enough; least_queries: how many this percentile needs at least; over: queries over the latency, that
    were (Server) or that may be (else); more: how many further queries it would take, all of them under the latency
    estimate_ns: what the percentile stays below, null where there were too few queries and in Server
    """

    met: bool
    percentile: float
    least_queries: int
    over: int
    more: int = 0
    estimate_ns: int | None = None


class Scenario(Struct, frozen=True, kw_only=True):
    """A LoadGen-style result: its definitions, not its program.

    queries, samples: answered; taken_s: from the first query to the last answer; throughput_per_s: samples
    percentile_ns: LoadGen's percentile of the latencies, of the one that counts in this kind of load; null for Offline
    target_latency_ns: what Server is held to, else null; met: whether the result counts; reasons: why not
    latencies_ns: of each query, in order; of each sample since the start for Offline
    """

    kind: ScenarioKind
    style: Literal["LoadGen-style"] = "LoadGen-style"
    load: Load
    runtime_version: str
    queries: int
    samples: int
    taken_s: float
    throughput_per_s: float
    percentile_ns: int | None
    target_latency_ns: int | None
    early_stopping: EarlyStopping | None
    met: bool
    reasons: tuple[str, ...]
    latencies_ns: tuple[int, ...]


class Difference(Struct, frozen=True):
    """A sample that board and host answer differently. index: in the evaluation set; label: as it says; host, board: classes"""

    index: int
    label: int
    host: int
    board: int


class Accuracy(Struct, frozen=True, kw_only=True):
    """Known samples through one variant, on the board and on the host.

    samples: how many of the `available` ones, spread evenly; data: as it was named; metric: by name; host, board: its value
    agreement: share of samples with the same answer, null where outputs are no classes; differing: how many are not, and
    differences: the first of them; max_abs: largest difference of any output; within: it keeps the bundle's tolerance
    host_runtime, board_runtime: name and version
    """

    samples: int
    available: int
    data: str
    metric: str
    host: float
    board: float
    agreement: float | None
    differing: int
    differences: tuple[Difference, ...]
    max_abs: float
    within: bool
    host_runtime: str
    board_runtime: str
