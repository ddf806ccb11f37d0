"""Measure one variant of an installed release: fresh processes of the runtime's own Python, each timed by itself.

The parent knows the release and the board; a child knows a file and a protocol, and imports nothing but `run.py` before it
measures, so that its memory and its start are the model's. Every sample is kept: what they mean is decided on the host.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

from . import conditions, release, store
from . import run as models
from . import runtime as runtimes
from .faults import Fault
from .requests import decode

START_SECONDS = 180.0
"""What a child may take to import its runtime, open the model and run it once, before its capped part begins."""
_STDERR = 2000
_BOOT = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).child()"


class Protocol(NamedTuple):
    processes: int = 3
    warmup: int = 5
    samples: int = 50
    threads: int = 1
    seconds: float = 30.0
    inputs: str = "golden"


class BenchRequest(NamedTuple):
    name: str
    release: str
    variant: str


class Subject(NamedTuple):
    """What is measured. golden: an `.npz` of real samples, or nothing for seeded noise; python: the runtime's own."""

    variant: str
    runtime: str
    key: str
    model: str
    golden: str
    python: str


def run(root: str, request: Any) -> Dict[str, Any]:
    """Answer a `BenchRequest` of `edgepack.protocol` with a `BenchReply`.

    Raises Fault where the release or its runtime is not there, or a process failed, was killed or hung.
    """
    raw = dict(request)
    protocol = decode(Protocol, raw.pop("protocol", {}))
    asked = decode(BenchRequest, raw)
    if protocol.processes < 1 or protocol.samples < 1 or protocol.warmup < 0 or protocol.threads < 1:
        raise Fault("bug", f"a benchmark cannot be made of {protocol}")
    subject = find_subject(root, asked, protocol.inputs)
    before = conditions.read()
    replies = [measure(subject, protocol, number) for number in range(1, protocol.processes + 1)]
    return {
        "variant": subject.variant,
        "runtime": subject.runtime,
        "runtime_version": replies[0]["runtime_version"],
        "lock": subject.key if subject.key.startswith("sha256:") else "",
        "processes": [reply["process"] for reply in replies],
        "harness_overhead_ns": max(reply["overhead_ns"] for reply in replies),
        "before": before,
        "after": conditions.read(),
    }


def find_subject(root: str, asked: BenchRequest, inputs: str) -> Subject:
    """The files of one variant of an installed release. Raises Fault naming what is missing."""
    record = release.read(root, asked.name, asked.release)
    if record is None:
        raise Fault(
            "board",
            f"{asked.name} {asked.release[:19]} is not installed on this board",
            expected=store.release_folder(root, asked.name, asked.release),
            advice="edgepack push the bundle first",
        )
    id = asked.variant or record.variant
    if id not in record.variants:
        raise Fault(
            "board",
            f"variant {id!r} of {asked.name} is not installed on this board",
            expected=f"one of {', '.join(record.variants)}",
            advice="push the bundle with that variant first",
        )
    folder = store.release_folder(root, asked.name, asked.release)
    variant = release.variant(release.read_manifest(os.path.join(folder, "manifest.json")), id)
    key = record.runtimes.get(variant.runtime, "")
    if not key:
        raise Fault(
            "board", f"{asked.name} was installed without the runtime {variant.runtime}", advice="push the bundle again"
        )
    python = runtimes.require(root, key).python
    golden = store.blob_path(root, variant.golden) if inputs == "golden" else ""
    return Subject(id, variant.runtime, key, os.path.join(folder, id), golden, python)


def measure(subject: Subject, protocol: Protocol, number: int) -> Dict[str, Any]:
    """One fresh process. Raises Fault naming the process and how it ended."""
    package = __package__ or ""
    root = str(Path(__file__).parents[len(package.split("."))])
    order = {
        "model": subject.model,
        "runtime": subject.runtime,
        "golden": subject.golden,
        "protocol": protocol._asdict(),
    }
    limit = START_SECONDS + 2 * protocol.seconds
    title = f"process {number} of {protocol.processes} ({subject.variant}, {subject.runtime})"
    process = subprocess.Popen(
        [subject.python, "-I", "-c", _BOOT, root, __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(json.dumps(order).encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Fault(
                "board",
                f"{title} gave no answer within {limit:.0f} s and was killed",
                advice="measure with fewer samples or a smaller model; a process that crashed may also hang under emulation",
            ) from None
        except BaseException:  # the agent itself is being stopped: its child must not go on alone
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return _reply(title, process.returncode, out, err)


def _reply(title: str, code: int, out: bytes, err: bytes) -> Dict[str, Any]:
    said = err.decode("utf-8", "replace")[-_STDERR:].strip()
    if code < 0:
        raise Fault("board", f"{title} was killed by {_signal_name(-code)}", expected="exit 0", advice=said)
    try:
        reply: Dict[str, Any] = json.loads(out)
    except ValueError:
        raise Fault(
            "board", f"{title} ended with exit code {code}: {said or 'it said nothing'}", expected="exit 0"
        ) from None
    if "error" in reply:
        raise Fault("board", f"{title}: {reply['error']}", advice="push the bundle again, or bench another variant")
    return reply


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def child() -> None:
    """A child's whole life: its order as JSON on standard input, its answer on standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints must not mix with the answer
    order = json.load(sys.stdin)
    try:
        reply = time_model(order["model"], order["runtime"], order["golden"], decode(Protocol, order["protocol"]))
    except models.ModelError as error:
        reply = {"error": str(error)}
    with answer:
        json.dump(reply, answer)


def time_model(model: str, runtime: str, golden: str, protocol: Protocol) -> Dict[str, Any]:
    """Import, load, first inference, warm-up and samples of this process, in nanoseconds."""
    started = time.perf_counter_ns()
    importlib.import_module(models.MODULES[runtime])
    imported = time.perf_counter_ns()
    baseline = peak_kb()
    opened = time.perf_counter_ns()
    session = models.open_model(model, runtime, protocol.threads)
    loaded = time.perf_counter_ns()
    inputs = _golden_inputs(session, golden) if golden else _seeded_inputs(session)
    first = time.perf_counter_ns()
    session.run_raw(inputs[0])
    ran = time.perf_counter_ns()
    gc.collect()
    gc.disable()  # a collection inside a sample would be ours, not the model's
    stop = ran + int(protocol.seconds * 1e9)
    warm = _time_runs(session, inputs, protocol.warmup, ran + int(protocol.seconds * 0.5e9))
    samples = _time_runs(session, inputs, protocol.samples, stop)
    return {
        "runtime_version": session.version,
        "overhead_ns": harness_overhead_ns(),
        "process": {
            "import_ns": imported - started,
            "load_ns": loaded - opened,
            "first_ns": ran - first,
            "warm_ns": warm,
            "samples_ns": samples,
            "vmhwm_kb": peak_kb(),
            "baseline_kb": baseline,
        },
    }


def _time_runs(session: models.Session, inputs: List[List[Any]], count: int, stop: int) -> List[int]:
    """Up to `count` inferences over the inputs in turn, each timed without setting its input; at least one, then until `stop`."""
    clock = time.perf_counter_ns
    times: List[int] = []
    for index in range(count):
        session.prepare(inputs[index % len(inputs)])
        invoke = session.invoke_only
        before = clock()
        invoke()
        after = clock()
        times.append(after - before)
        if after > stop:
            break
    return times


def harness_overhead_ns(calls: int = 1001) -> int:
    """The median of timing a call that does nothing, measured as the samples are."""
    nothing = _Nothing()
    clock = time.perf_counter_ns
    times: List[int] = []
    for _ in range(calls):
        invoke = nothing.invoke_only
        before = clock()
        invoke()
        times.append(clock() - before)
    return sorted(times)[calls // 2]


class _Nothing:
    def invoke_only(self) -> None:
        pass


def _golden_inputs(session: models.Session, golden: str) -> List[List[Any]]:
    """The golden samples one at a time, as the model stores them."""
    import numpy as np

    with np.load(golden, allow_pickle=False) as arrays:
        inputs = [arrays[f"input_{index}"] for index in range(len(session.inputs))]
    return [session.stored([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]


def _seeded_inputs(session: models.Session) -> List[List[Any]]:
    """One set of seeded noise: floats of a standard normal, integers zero or one so that they index any table."""
    import numpy as np

    random = np.random.default_rng(0)
    arrays = []
    for tensor in session.inputs:
        shape = tuple(1 if size is None else size for size in tensor.shape)
        kind = np.dtype(tensor.dtype)
        noise = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        arrays.append(noise.astype(kind))
    return [session.stored(arrays)]


def peak_kb(status: str = "/proc/self/status") -> int:
    """This process's peak resident set, KiB (VmHWM)."""
    with open(status) as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return 0
