"""A benchmark through the agent as it is sent to boards, run here without the SSH between."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import Struct

from edgepack import measure, stats
from edgepack.bench import Side, bench, bench_pair, early_ends, stand_in
from edgepack.device import release
from edgepack.digest import Digest
from edgepack.errors import BoardError, InputError
from edgepack.ports import Heard, Reply
from edgepack.protocol import Beat, BenchReply, Facts, FactsRequest
from edgepack.remote import agent_pyz
from edgepack.report import BenchProtocol, BundleRef, Conditions, ProcessRun, Report, decode
from edgepack.target import BoardKind, Target

pytestmark = pytest.mark.frameworks

REF = BundleRef("sum", "1.0.0", Digest("sha256:" + "ab" * 32))
VARIANT = "sum.rpi4.fp32.onnx"
QUICK = BenchProtocol(processes=2, warmup=2, samples=10, most_samples=10, warm_seconds=0, least_seconds=0)
KITCHEN = Target(name="kitchen", host="kitchen.local", profile="rpi4")


class Local:
    """The real agent on this machine, asked as a session asks it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._pyz = folder / "agent.pyz"
        self._pyz.write_bytes(agent_pyz())
        self.deadlines: list[float] = []

    def call(
        self, verb: str, request: Struct, reply: type[Reply], deadline: float, heard: Heard | None = None
    ) -> Reply:
        self.deadlines.append(deadline)
        command = [sys.executable, "-W", "error", str(self._pyz), verb, str(self.root), str(deadline)]
        done = subprocess.run(command, input=msgspec.json.encode(request), capture_output=True, check=False)
        *said, last = done.stdout.splitlines()
        for line in said if heard else ():
            heard(line)
        answer = json.loads(last)
        if "error" in answer:
            raise BoardError(answer["error"]["what"], advice=answer["error"]["advice"])
        return msgspec.convert(answer, reply)

    def facts(self) -> Facts:
        return self.call("facts", FactsRequest(), Facts, 60)


@pytest.fixture
def agent(tmp_path: Path) -> Local:
    """A board with one release of y = x + x installed, run by this Python's own onnxruntime."""
    local = Local(tmp_path)
    folder = local.root / "releases/sum" / ("ab" * 32)
    folder.mkdir(parents=True)
    _write_model(folder / VARIANT)
    digest, golden = "sha256:" + "ef" * 32, "sha256:" + "cd" * 32
    variant = {"id": VARIANT, "runtime": "onnxruntime", "digest": digest, "golden": golden, "tolerance": [0.01]}
    manifest = {"schema": "edgepack.manifest/1", "name": "sum", "variants": [variant]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    runtimes = {"onnxruntime": "system:onnxruntime"}
    record = release.Record("sum", "1.0.0", REF.digest, digest, "rpi4", VARIANT, [VARIANT], runtimes)
    (folder / "release.json").write_text(json.dumps(record._asdict()))
    blobs = local.root / "blobs/sha256"
    blobs.mkdir(parents=True)
    with (blobs / ("cd" * 32)).open("wb") as file:
        np.savez(file, input_0=np.ones((2, 4), np.float32), output_0=np.full((2, 4), 2, np.float32))
    runtime = local.root / "runtimes/system-onnxruntime"
    runtime.mkdir(parents=True)
    note = {"runtime": "onnxruntime", "version": "1", "key": "system:onnxruntime", "provider": "system"}
    (runtime / "runtime.json").write_text(json.dumps({**note, "python": sys.executable}))
    return local


def _write_model(path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    x, y = (helper.make_tensor_value_info(name, float32, [1, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def _bench(agent: Local, target: Target = KITCHEN, ref: BundleRef = REF, variant: str = "") -> Report:
    return bench(agent, agent.facts(), target, ref, variant, QUICK, "2026-01-01T00:00:00Z")


def test_a_report_says_what_was_measured_where_and_how(agent: Local) -> None:
    report = _bench(agent)
    assert (report.bundle, report.variant, report.runtime.name) == (REF, VARIANT, "onnxruntime")
    assert report.runtime.version
    assert report.runtime.lock is None
    assert [len(process.samples_ns) for process in report.processes] == [10, 10]
    assert report.summary.count == 20
    assert report.run_context.target == "kitchen"
    assert report.run_context.before.load_1m is not None
    assert report.device["cores"] >= 1
    assert "releases" not in report.device
    assert report.validity.verdict != "valid", "20 samples of two processes are too few"
    assert report.notes == ()
    assert decode(msgspec.json.encode(report), "report.json") == report


def test_the_agent_gives_up_before_the_host_does(agent: Local) -> None:
    from edgepack.device.child import START_SECONDS

    _bench(agent)
    longest = 2 * (START_SECONDS + 2 * BenchProtocol().seconds)
    assert agent.deadlines[-1] > longest


@pytest.mark.parametrize(
    ("kind", "verdict", "word"), [("emulated", "invalid", "emulated board"), ("loopback", "suspect", "this machine")]
)
def test_a_stand_in_is_never_valid(agent: Local, kind: BoardKind, verdict: str, word: str) -> None:
    report = _bench(agent, msgspec.structs.replace(KITCHEN, board=kind))
    assert report.validity.verdict == verdict
    assert word in report.validity.reasons[0]


def test_either_side_can_say_that_a_board_stands_in(agent: Local) -> None:
    facts = agent.facts()
    emulated = msgspec.structs.replace(facts, board="emulated")
    loopback = msgspec.structs.replace(KITCHEN, board="loopback")
    assert stand_in(facts, KITCHEN) is None
    assert stand_in(emulated, KITCHEN) == "emulated"
    assert stand_in(facts, loopback) == "loopback"
    assert stand_in(emulated, loopback) == "emulated"


def test_what_is_not_installed_must_be_pushed_first(agent: Local) -> None:
    other = BundleRef("sum", "2.0.0", Digest("sha256:" + "00" * 32))
    with pytest.raises(BoardError, match=r"'kitchen': sum 2\.0\.0 .* is not installed there") as error:
        _bench(agent, ref=other)
    assert "1.0.0" in error.value.expected
    assert "edgepack push" in error.value.advice
    with pytest.raises(BoardError) as error:
        _bench(agent, ref=BundleRef("product", "1.0.0", REF.digest))
    assert "the board has none" in error.value.expected
    with pytest.raises(BoardError, match=r"variant 'sum\.rpi4\.w8a8\.onnx' of sum is not installed"):
        _bench(agent, variant="sum.rpi4.w8a8.onnx")


def test_a_listener_hears_how_far_it_is(agent: Local) -> None:
    heard: list[Beat] = []
    bench(agent, agent.facts(), KITCHEN, REF, "", QUICK, "2026-01-01T00:00:00Z", heard.append)
    assert {beat.target for beat in heard} == {"kitchen"}
    assert {(beat.process, beat.processes) for beat in heard} == {(1, 2), (2, 2)}
    timed = [beat for beat in heard if beat.stage == "timing"]
    assert timed and all(beat.p50_ns and beat.samples for beat in timed)


def test_two_variants_take_turns_and_their_ratio_has_an_interval(agent: Local) -> None:
    sides = (Side(REF), Side(REF, VARIANT))
    protocol = msgspec.structs.replace(QUICK, processes=3)
    first, second = bench_pair(agent, agent.facts(), KITCHEN, sides, protocol, "2026-01-01T00:00:00Z")
    assert [len(report.processes) for report in (first, second)] == [3, 3]
    assert first.run_context.before == second.run_context.before
    low, high = stats.compare_pairs(first, second, 0.05).interval
    assert low < high
    missing = Side(BundleRef("sum", "2.0.0", Digest("sha256:" + "00" * 32)))
    with pytest.raises(BoardError, match=r"2\.0\.0 .* is not installed"):
        bench_pair(agent, agent.facts(), KITCHEN, (Side(REF), missing), protocol, "")


def test_a_sweep_has_a_verdict_for_every_number_of_threads(agent: Local) -> None:
    protocol = msgspec.structs.replace(QUICK, processes=1, sweep_threads=True)
    report = bench(agent, agent.facts(), KITCHEN, REF, "", protocol, "2026-01-01T00:00:00Z")
    assert [point.threads for point in report.sweep] == list(range(1, report.device["cores"] + 1))
    for point in report.sweep:
        assert point.interval_ns[0] <= point.p50_ns <= point.interval_ns[1]
        assert point.throughput_per_s == pytest.approx(1e9 / point.p50_ns)


def _reply(counts: Sequence[tuple[int, int]]) -> BenchReply:
    processes = tuple(
        ProcessRun(import_ns=1, load_ns=1, first_ns=1, warm_ns=(1,) * warm, samples_ns=(5,) * taken, vmhwm_kb=1)
        for warm, taken in counts
    )
    known: dict[str, Any] = {"variant": VARIANT, "runtime": "litert", "runtime_version": "2", "lock": ""}
    return BenchReply(**known, processes=processes, harness_overhead_ns=1, before=Conditions(), after=Conditions())


def test_a_process_that_ended_early_is_said() -> None:
    protocol = BenchProtocol(processes=3, warmup=2, samples=10, seconds=1.5)
    assert early_ends(_reply([(2, 10), (2, 7), (1, 1)]), protocol) == (
        "process 2 ended at its cap of 1.5 s: 7 of 10 samples, 2 of 2 warm-up runs",
        "process 3 ended at its cap of 1.5 s: 1 of 10 samples, 1 of 2 warm-up runs",
    )


def test_only_reports_that_can_be_compared_are(agent: Local) -> None:
    report = _bench(agent)
    assert measure.compare(report, report, 0.05).ratio == 1
    replace = msgspec.structs.replace
    empty = replace(report, processes=(replace(report.processes[0], samples_ns=()),))
    for broken in (empty, replace(report, processes=())):
        with pytest.raises(InputError, match="kitchen"):
            measure.compare(report, broken, 0.05)
    with pytest.raises(InputError, match="different models: sum and kws"):
        measure.compare(report, replace(report, bundle=replace(REF, name="kws")), 0.05)
    with pytest.raises(InputError, match="negative"):
        measure.compare(report, report, -0.1)
