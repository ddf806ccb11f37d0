"""How long each operator takes, in a process of its own: profiling slows a model down, so nothing here is a latency of it."""

from __future__ import annotations

import json
import os
import tempfile
import time
from typing import Any, Dict, List, Tuple

from . import run as models
from .bench_child import read_inputs, time_some
from .bench_protocol import Protocol
from .child import Beats

_RUNS = 200
_SECONDS = 3.0
_WARM = 5
COARSE = "the profiler counts whole microseconds: operators that take less are shown as less than they are"
Found = Dict[Tuple[str, str], List[int]]
"""By (name, kind): nanoseconds of each call."""


def operators(order: Dict[str, Any], protocol: Protocol, beats: Beats) -> Dict[str, Any]:
    """`edgepack.report.Operator`s by the runtime's own profiler, or the reason why it has none."""
    runtime = str(order["runtime"])
    beats.tell({"stage": "ops"})
    if runtime == "onnxruntime":
        return _onnxruntime(order, protocol)
    if runtime == "litert":
        from . import litert_profile

        return litert_profile.operators(str(order["model"]), protocol, seconds=_SECONDS, most=_RUNS)
    return {"found": [], "note": f"not available: {runtime} has no profiler that Python can reach"}


def _onnxruntime(order: Dict[str, Any], protocol: Protocol) -> Dict[str, Any]:
    """From the JSON that onnxruntime writes, in whole microseconds: the kernels' own times, of which it lists every call."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, os.path.join(folder, "profile")
        session = models.OnnxSession(onnxruntime, str(order["model"]), protocol.threads, options)
        shots = [session.shot(one) for one in read_inputs(session, str(order["golden"]), protocol.batch)]
        stop, runs = time.perf_counter() + _SECONDS, 0
        while runs < _WARM + _RUNS and (runs <= _WARM or time.perf_counter() < stop):
            time_some(shots, 1, runs)
            runs += 1
        with open(session.end_profiling()) as file:
            events = json.load(file)
    found: Found = {}
    for event in _without_warm_up(events, _WARM):
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            kind = str(event.get("args", {}).get("op_name", ""))
            found.setdefault((name[: -len("_kernel_time")], kind), []).append(int(event["dur"]) * 1000)
    return {"found": share_out(found, runs - _WARM), "note": COARSE}


def _without_warm_up(events: List[Dict[str, Any]], runs: int) -> List[Dict[str, Any]]:
    """Events of the inferences after the first `runs`. Inferences follow one another, so their ends divide the file."""
    ends = sorted(int(event["ts"]) + int(event["dur"]) for event in events if event.get("name") == "model_run")
    start = ends[runs - 1] if len(ends) > runs else 0
    return [event for event in events if int(event.get("ts", 0)) >= start]


def share_out(found: Found, runs: int) -> List[Dict[str, Any]]:
    """One inference, the longest operator first. share: of what all operators take together

    The mean of the middle half of the calls: one of all would show where the scheduler struck, a median whole microseconds.
    """
    taken = {key: _middle(calls) * len(calls) / runs for key, calls in found.items()}
    whole = sum(taken.values())
    listed = [
        {
            "name": name,
            "kind": kind,
            "ns": round(taken[name, kind]),
            "share": taken[name, kind] / whole if whole else 0.0,
            "calls": max(1, round(len(calls) / runs)),
        }
        for (name, kind), calls in found.items()
    ]
    return sorted(listed, key=lambda one: -float(one["share"]))


def _middle(values: List[int]) -> float:
    ordered = sorted(values)
    kept = ordered[len(ordered) // 4 : len(ordered) - len(ordered) // 4]
    return sum(kept) / len(kept)
