"""How to measure, as the host asks for it."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, Tuple

from .faults import Fault
from .requests import decode


class Protocol(NamedTuple):
    """As `edgepack.report.BenchProtocol`."""

    processes: int = 5
    warmup: int = 5
    samples: int = 50
    threads: int = 1
    seconds: float = 30.0
    inputs: str = "golden"
    warm_seconds: float = 0.3
    least_seconds: float = 0.5
    most_samples: int = 5000
    precision: float = 0.02
    batch: int = 1
    pin: Tuple[int, ...] = ()
    governor: str = ""
    cool_to_c: float = 70.0
    cool_seconds: float = 60.0
    sweep_threads: bool = False
    sustained_seconds: float = 0.0
    cold: bool = False
    ops: bool = False
    energy: bool = False


def read_protocol(raw: Any) -> Protocol:
    """Raises Fault for what no benchmark can be made of, or a core that this board does not have."""
    protocol = decode(Protocol, {**raw, "pin": []})._replace(pin=_cores(raw.get("pin") or ()))
    least = min(protocol.processes, protocol.samples, protocol.threads, protocol.most_samples, protocol.batch)
    if least < 1 or protocol.warmup < 0:
        raise Fault("bug", f"a benchmark cannot be made of {protocol}")
    return protocol


def _cores(raw: Any) -> Tuple[int, ...]:
    if not all(isinstance(core, int) and core >= 0 for core in raw):
        raise Fault("bug", "a core to pin to is no number")
    there = os.sched_getaffinity(0) if raw else set()
    if missing := [core for core in raw if core not in there]:
        raise Fault(
            "input",
            f"this board lets no process run on core {missing[0]}",
            expected=f"--pin with some of {', '.join(map(str, sorted(there)))}",
        )
    return tuple(raw)
