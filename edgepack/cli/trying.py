"""What `edgepack bench` does beside the headline: a LoadGen-style scenario, and accuracy on the board."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.output import print_table

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.ports import Progress
    from edgepack.report import BenchProtocol, Report
    from edgepack.target import Target
    from edgepack.trials import Load, ScenarioKind
    from edgepack.trying import Questions


class Kind(StrEnum):
    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"
    SERVER = "server"
    OFFLINE = "offline"


Scenario = Annotated[Kind, typer.Option(help="Measure under a LoadGen-style load, too.")]
TargetQps = Annotated[float, typer.Option(help="Server: queries a second, arriving at random.")]
TargetLatency = Annotated[float, typer.Option(help="Server: what the 99th percentile must stay below.")]
Duration = Annotated[float, typer.Option(help="Seconds of a scenario, at least.")]
AccuracyData = Annotated[
    str,
    typer.Option("--accuracy", help="Labelled samples to answer on the board and here: an .npz, or file.py:callable."),
]
Part = Annotated[float, typer.Option(help="Which share of those samples, spread evenly.")]
MetricName = Annotated[str, typer.Option(help="Of --accuracy (default: the bundle's).")]

_KINDS: dict[Kind, ScenarioKind] = {
    Kind.SINGLE_STREAM: "SingleStream",
    Kind.MULTI_STREAM: "MultiStream",
    Kind.SERVER: "Server",
    Kind.OFFLINE: "Offline",
}
_SECONDS = 10.0
STREAMS = 8
"""Samples in a query of MultiStream, as the MLPerf inference rules have it."""


@dataclass(frozen=True)
class Trials:
    """The options as they were given."""

    scenario: Kind | None
    target_qps: float
    target_latency_ms: float
    seconds: float
    data: str
    part: float
    metric: str

    def load(self, protocol: BenchProtocol | None = None) -> Load | None:
        from edgepack.trials import Load

        if self.scenario is None:
            return None
        load = Load(
            kind=_KINDS[self.scenario],
            seconds=self.seconds,
            samples_per_query=STREAMS if self.scenario is Kind.MULTI_STREAM else 1,
            target_qps=self.target_qps,
        )
        return load if protocol is None else _as(load, protocol)

    def check(self) -> None:
        """Raises UsageError before anything is measured."""
        from edgepack import trying
        from edgepack.errors import UsageError

        load = self.load()
        if load is not None:
            trying.check(load, self.target_latency_ms)
        elif self.target_qps or self.target_latency_ms:
            raise UsageError("--target-qps and --target-latency-ms belong to --scenario server")
        elif self.seconds != _SECONDS:
            raise UsageError("--duration belongs to --scenario")
        if (self.metric or self.part != 1) and not self.data:
            raise UsageError("--part and --metric belong to --accuracy")

    def questions(self, bundle: Bundle, progress: Progress) -> Questions | None:
        """What `--accuracy` names, read before anything is measured. Raises as `edgepack.trying.questions`."""
        from edgepack import trying

        return trying.questions(bundle, self.data, self.part, self.metric, progress) if self.data else None

    def add(
        self,
        bundle: Bundle,
        targets: Sequence[Target],
        reports: list[Report],
        protocol: BenchProtocol,
        asked: Questions | None,
        progress: Progress,
    ) -> None:
        """Put what was asked for beside the headline into the reports, and what the variant computes.

        In place, pass by pass: where one fails, those before it are there.
        """
        from edgepack import trying

        reports[:] = trying.counted(bundle, reports, progress)
        if load := self.load(protocol):
            reports[:] = trying.under_load(targets, reports, load, self.target_latency_ms, progress)
        if asked is not None:
            reports[:] = trying.accuracy(bundle, targets, reports, asked, progress)


def _as(load: Load, protocol: BenchProtocol) -> Load:
    from msgspec import structs

    return structs.replace(load, threads=protocol.threads, inputs=protocol.inputs)


def print_trials(reports: Sequence[Report]) -> None:
    scenarios = [_scenario_row(report) for report in reports if report.scenario]
    if scenarios:
        columns = (
            "target",
            "LoadGen-style",
            "queries",
            "samples/s",
            "percentile ms",
            "early stopping ms",
            "met",
            "why not",
        )
        print_table("", columns, scenarios)
    for report in reports:
        if report.accuracy:
            _print_accuracy(report)


def _scenario_row(report: Report) -> tuple[str, ...]:
    found = report.scenario
    assert found is not None
    stopping = found.early_stopping
    estimate = stopping.estimate_ns if stopping else None
    return (
        report.run_context.target,
        found.kind,
        str(found.queries),
        f"{found.throughput_per_s:.1f}",
        "–"
        if found.percentile_ns is None or not stopping
        else f"{found.percentile_ns / 1e6:.3f} ({stopping.percentile:.0%})",
        "–" if estimate is None else f"{estimate / 1e6:.3f}",
        "yes" if found.met else "NO",
        "; ".join(found.reasons),
    )


def _print_accuracy(report: Report) -> None:
    found = report.accuracy
    assert found is not None
    share = "" if found.agreement is None else f", the same answer on {found.agreement:.2%} of them"
    print(
        f"{report.run_context.target}: {found.metric} {found.board:.4f} on the board ({found.board_runtime}), {found.host:.4f} "
        f"here ({found.host_runtime}), on {found.samples} of {found.available} samples{share}; largest difference "
        f"{found.max_abs:.4g}{'' if found.within else ', ABOVE the bundle’s tolerance'}"
    )
    if found.differences:
        rows = [tuple(str(value) for value in (one.index, one.label, one.host, one.board)) for one in found.differences]
        print_table(f"{found.differing} differ", ("sample", "label", "here", "on the board"), rows)
