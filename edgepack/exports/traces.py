"""A report on a time line (Chrome's Trace Event Format, which Perfetto reads too) and on a model's graph (Model Explorer)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from edgepack.errors import InputError
from edgepack.report import Block, Operator, ProcessRun, Report

Event = dict[str, Any]


def chrome_trace(report: Report) -> str:
    """A process a process: import, load, first inference, warm-up, every timed one; temperature and MHz as counters.

    Processes of a board follow each other; between them the trace leaves a millisecond, since their clocks share no zero.
    Operators, timed in a pass of their own, come last, as one inference after the other operator by operator.
    """
    events: list[Event] = []
    start = 0
    for number, process in enumerate(report.processes, 1):
        spans = list(_process_events(process, number, start))
        events += [_name(number, f"process {number}"), *spans]
        start = 1_000_000 + max(event["ts"] * 1000 + event.get("dur", 0) * 1000 for event in spans)
    if report.ops:
        number = len(report.processes) + 1
        events += [_name(number, "operators (a pass of their own)"), *_operator_events(report.ops, number, start)]
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "bundle": f"{report.bundle.name} {report.bundle.version}",
            "variant": report.variant,
            "target": report.run_context.target,
            "runtime": f"{report.runtime.name} {report.runtime.version}",
            "verdict": report.validity.verdict,
            "reasons": list(report.validity.reasons),
        },
    }
    return json.dumps(document) + "\n"


def _process_events(process: ProcessRun, number: int, start: int) -> Iterator[Event]:
    clock = start
    for name, duration in (
        ("import the runtime", process.import_ns),
        ("open the model", process.load_ns),
        ("first inference", process.first_ns),
        *(("warm-up", value) for value in process.warm_ns),
    ):
        yield _span(number, name, clock, duration)
        clock += duration
    starts = {block.start: block for block in process.blocks}
    began = clock
    for index, value in enumerate(process.samples_ns):
        if block := starts.get(index):
            clock = max(clock, began + block.at_ns)
            yield from _counters(block, number, clock)
        yield _span(number, "inference", clock, value)
        clock += value


def _counters(block: Block, number: int, clock: int) -> Iterator[Event]:
    if block.temperature_c is not None:
        yield _counter(number, "temperature °C", clock, {"°C": block.temperature_c})
    if block.mhz:
        yield _counter(number, "MHz", clock, {f"cpu{index}": value for index, value in enumerate(block.mhz)})


def _operator_events(ops: Sequence[Operator], number: int, clock: int) -> Iterator[Event]:
    for op in ops:
        yield {**_span(number, op.name, clock, op.ns), "args": {"kind": op.kind, "share": op.share, "calls": op.calls}}
        clock += op.ns


def _span(process: int, name: str, start: int, duration: int) -> Event:
    """A complete event; the format counts microseconds."""
    return {"name": name, "ph": "X", "pid": process, "tid": 1, "ts": start / 1000, "dur": duration / 1000}


def _counter(process: int, name: str, at: int, values: dict[str, float]) -> Event:
    return {"name": name, "ph": "C", "pid": process, "tid": 1, "ts": at / 1000, "args": values}


def _name(process: int, name: str) -> Event:
    return {"name": "process_name", "ph": "M", "pid": process, "tid": 1, "args": {"name": name}}


def model_explorer(report: Report) -> str:
    """Node data for Model Explorer (its `GraphNodeData`): mean nanoseconds of each operator in one inference.

    Keys are the operators' names as the runtime tells them, which Model Explorer looks up among node ids and names of output
    tensors. Raises InputError where the report has no operators.
    """
    if not report.ops:
        raise InputError(
            f"the report of {report.variant} on {report.run_context.target} has no operators",
            expected="a report of edgepack bench --ops",
            advice="measure again with --ops, or export another format",
        )
    times: Counter[str] = Counter()
    for op in report.ops:
        times[op.name] += op.ns
    document = {
        "name": f"ns on {report.run_context.target}",
        "results": {name: {"value": value} for name, value in times.items()},
        "gradient": [{"stop": 0, "bgColor": "#ffffff"}, {"stop": 1, "bgColor": "#d9480f"}],
    }
    return json.dumps(document, indent=1) + "\n"
