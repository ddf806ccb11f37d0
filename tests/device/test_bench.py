"""Fresh processes on a board, and what the board says of its own state."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepack import protocol
from edgepack.device import bench, conditions, preflight, release
from edgepack.device.faults import Fault
from edgepack.remote import agent_pyz
from edgepack.report import BenchProtocol, Conditions, Gate

pytestmark = pytest.mark.frameworks

RELEASE = "sha256:" + "ab" * 32
GOLDEN = "sha256:" + "cd" * 32
MODEL = "sha256:" + "ef" * 32
VARIANT = "sum.rpi4.fp32.onnx"


@pytest.fixture
def root(tmp_path: Path, affine_onnx: Path) -> Path:
    """A board's root with one installed release whose runtime is this Python's own."""
    root = tmp_path / "root"
    folder = root / "releases/sum" / ("ab" * 32)
    folder.mkdir(parents=True)
    shutil.copy(affine_onnx, folder / VARIANT)
    variant = {"id": VARIANT, "runtime": "onnxruntime", "digest": MODEL, "golden": GOLDEN, "tolerance": [0.01]}
    manifest = {"schema": "edgepack.manifest/1", "name": "sum", "default": VARIANT, "variants": [variant]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    record = release.Record(
        name="sum",
        version="1.0.0",
        digest=RELEASE,
        manifest="",
        profile="rpi4",
        variant=VARIANT,
        variants=[VARIANT],
        runtimes={"onnxruntime": "system:onnxruntime"},
    )
    (folder / "release.json").write_text(json.dumps(record._asdict()))
    golden = root / "blobs/sha256" / ("cd" * 32)
    golden.parent.mkdir(parents=True)
    with golden.open("wb") as file:
        np.savez(file, input_0=np.ones((3, 4), np.float32), output_0=np.full((3, 3), 5, np.float32))
    _use_python(root, sys.executable)
    return root


def _use_python(root: Path, python: str) -> None:
    folder = root / "runtimes/system-onnxruntime"
    folder.mkdir(parents=True, exist_ok=True)
    note = {
        "runtime": "onnxruntime",
        "version": "1",
        "key": "system:onnxruntime",
        "provider": "system",
        "python": python,
    }
    (folder / "runtime.json").write_text(json.dumps(note))


def _ask(root: Path, variant: str = "", **settings: Any) -> protocol.BenchReply:
    how = BenchProtocol(**{"warm_seconds": 0.0, "least_seconds": 0.0, **settings})
    request = protocol.BenchRequest(name="sum", release=RELEASE, variant=variant, protocol=how)
    reply = bench.run(str(root), msgspec.to_builtins(request), lambda beat: None)
    return msgspec.convert(json.loads(json.dumps(reply)), protocol.BenchReply)


@pytest.mark.parametrize("inputs", ["golden", "seeded"])
def test_every_process_is_fresh_and_keeps_every_sample(root: Path, inputs: str) -> None:
    reply = _ask(root, processes=2, warmup=3, samples=20, most_samples=20, inputs=inputs)
    assert (reply.variant, reply.runtime, reply.lock) == (VARIANT, "onnxruntime", "")
    assert reply.runtime_version
    assert len(reply.processes) == 2
    for process in reply.processes:
        assert (len(process.warm_ns), len(process.samples_ns)) == (3, 20)
        assert process.import_ns > 1_000_000, "the runtime was already imported: the process is not fresh"
        assert min(process.load_ns, process.first_ns, *process.warm_ns, *process.samples_ns) > 0
        assert process.vmhwm_kb >= process.baseline_kb > 1000
    assert 0 < reply.harness_overhead_ns < 100_000
    assert reply.before.memory_available_kb
    assert reply.before.load_1m is not None


def test_the_cap_ends_a_process_early(root: Path) -> None:
    (process,) = _ask(root, processes=1, warmup=0, samples=10_000_000, most_samples=10_000_000, seconds=0.05).processes
    assert 1 <= len(process.samples_ns) < 10_000_000
    assert sum(process.samples_ns) < 1e9


def test_it_runs_from_the_zipped_agent(root: Path, tmp_path: Path) -> None:
    """The child finds its code where the parent's lies, in a zip and under another package name."""
    archive = tmp_path / "agent.pyz"
    with zipfile.ZipFile(archive, "w") as zipped:
        for file in Path(bench.__file__).parent.glob("*.py"):
            zipped.write(file, f"board_agent/{file.name}")
    code = (
        "import sys, json; sys.path.insert(0, sys.argv[1]); from board_agent import bench;"
        "assert 'edgepack' not in sys.modules; print(json.dumps(bench.run(sys.argv[2], json.load(sys.stdin), lambda beat: None)))"
    )
    request = {
        "name": "sum",
        "release": RELEASE,
        "variant": "",
        "protocol": {"processes": 1, "samples": 2, "most_samples": 2},
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-I", "-c", code, str(archive), str(root)],
        input=json.dumps(request).encode(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert len(json.loads(done.stdout)["processes"][0]["samples_ns"]) == 2


def _script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("kill -SEGV $$", "process 1 of 5 (sum.rpi4.fp32.onnx, onnxruntime) was killed by SIGSEGV"),
        ("kill -ILL $$", "was killed by SIGILL"),
        ("echo no such module >&2; exit 3", "ended with exit code 3: no such module"),
    ],
)
def test_a_crash_names_the_process_and_the_signal(root: Path, tmp_path: Path, script: str, message: str) -> None:
    _use_python(root, _script(tmp_path / "python", script))
    with pytest.raises(Fault) as fault:
        _ask(root)
    assert fault.value.kind == "board"
    assert message in fault.value.what


def test_a_hanging_process_is_killed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "START_SECONDS", 0.2)
    _use_python(root, _script(tmp_path / "python", "sleep 60"))
    with pytest.raises(Fault, match="no answer within") as fault:
        _ask(root, seconds=0.1)
    assert fault.value.advice


def test_a_broken_model_is_said_by_the_child(root: Path) -> None:
    (root / "releases/sum" / ("ab" * 32) / VARIANT).write_bytes(b"broken")
    with pytest.raises(Fault, match=r"process 1 of 5 .*onnxruntime cannot open it"):
        _ask(root)


def test_what_is_not_installed_is_named(root: Path) -> None:
    with pytest.raises(Fault, match=r"variant 'other\.onnx' of sum is not installed"):
        _ask(root, "other.onnx")
    (root / "releases/sum" / ("ab" * 32) / "release.json").unlink()
    with pytest.raises(Fault, match="is not installed on this board") as fault:
        _ask(root)
    assert "push" in fault.value.advice


def _tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


PI = {
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "600000\n",
    "sys/class/thermal/thermal_zone0/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "80000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "48312\n",
    "proc/loadavg": "0.31 0.10 0.05 1/123 4567\n",
    "proc/meminfo": "MemTotal: 3884000 kB\nMemAvailable:    3000000 kB\n",
}


def _conditions(tree: str, **options: Any) -> Conditions:
    return msgspec.convert(conditions.read(tree, **options), Conditions)


def test_conditions_of_a_raspberry_pi(tmp_path: Path) -> None:
    tool = _script(tmp_path / "vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x50005')
    assert _conditions(_tree(tmp_path / "tree", PI), vcgencmd=tool) == Conditions(
        governor="ondemand",
        mhz=(1500, 600),
        temperature_c=48.312,
        throttled=0x50005,
        load_1m=0.31,
        memory_available_kb=3_000_000,
        temperatures_c={"cpu-thermal": 48.312, "gpu-thermal": 80.0},
        undervoltage=True,
    )


def test_the_kernels_file_is_asked_before_the_tool(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": "10000\n"})
    assert _conditions(tree, vcgencmd="/nonexistent").throttled == 0x10000


def test_a_board_that_tells_nothing(tmp_path: Path) -> None:
    assert _conditions(str(tmp_path)) == Conditions()


@pytest.mark.parametrize("script", ["exit 1", "echo error=1", "exec sleep 0.01"])
def test_a_tool_that_does_not_answer_is_no_reading(tmp_path: Path, script: str) -> None:
    assert _conditions(str(tmp_path), vcgencmd=_script(tmp_path / "vcgencmd", script)).throttled is None
    assert _conditions(str(tmp_path), vcgencmd=str(tmp_path / "gone")).throttled is None


def test_odd_values_are_no_reading(tmp_path: Path) -> None:
    odd = dict.fromkeys(PI, "<unsupported>\n")
    assert _conditions(_tree(tmp_path, odd)) == Conditions(governor="<unsupported>")


def _quick(**settings: Any) -> dict[str, Any]:
    shipped = {"processes": 1, "warmup": 1, "samples": 5, "most_samples": 5, "warm_seconds": 0.0, "least_seconds": 0.0}
    return msgspec.to_builtins(BenchProtocol(**{**shipped, **settings}))


def test_passes_beside_the_headline_are_processes_of_their_own(root: Path, tmp_path: Path) -> None:
    """All of them on a fake Raspberry Pi 5, whose tool answers as the real one does."""
    rails = "VDD_CORE_A current(7)=2.00000000A\n VDD_CORE_V volt(15)=0.75000000V\n EXT5V_V volt(24)=5.1V"
    _tree(tmp_path / "tree", {**PI, "usr/bin/x": ""})
    _script(
        tmp_path / "tree/usr/bin/vcgencmd",
        f'case $1 in pmic_read_adc) printf "{rails}\\n";; get_throttled) echo throttled=0x0;; version) echo v42;; esac',
    )
    how = _quick(cold=True, ops=True, energy=True, sweep_threads=True, sustained_seconds=0.2, seconds=1.2)
    beats: list[dict[str, Any]] = []
    asked = {"name": "sum", "release": RELEASE, "variant": "", "protocol": how}
    answer = bench.run(str(root), asked, beats.append, str(tmp_path / "tree"))
    reply = msgspec.convert(json.loads(json.dumps(answer)), protocol.BenchReply)
    assert len(reply.processes[0].samples_ns) == 5
    block = reply.processes[0].blocks[0]
    assert (block.start, block.mhz, block.temperature_c, block.throttled) == (0, (1500, 600), 48.312, 0)
    assert reply.preflight is not None and reply.preflight.firmware == "v42"
    assert reply.cold is not None and min(reply.cold.import_ns, reply.cold.load_ns, reply.cold.first_ns) > 0
    assert (reply.cold.page_cache == "cold") == (reply.cold.note == "")
    assert {op.kind for op in reply.ops} == {"MatMul", "Add"} or {op.kind for op in reply.ops} == {"Gemm"}
    assert sum(op.share for op in reply.ops) == pytest.approx(1)
    assert reply.energy is not None
    assert reply.energy.watts == pytest.approx(1.5)
    each = reply.energy.seconds / reply.energy.inferences
    assert reply.energy.joules_per_inference == pytest.approx(1.5 * each)
    (minute,) = reply.sustained
    assert minute.count >= 1 and minute.p50_ns <= minute.p90_ns
    assert [point.threads for point in reply.sweep] == list(range(1, len(reply.sweep) + 1))
    assert all(len(point.processes) == bench.SWEEP_PROCESSES for point in reply.sweep)
    stages = {msgspec.convert(beat, protocol.Beat).stage for beat in beats}
    assert {"starting", "timing", "sweep", "sustained", "energy"} <= stages


def test_a_board_without_a_sensor_has_no_energy_and_says_so(root: Path, tmp_path: Path) -> None:
    asked = {"name": "sum", "release": RELEASE, "variant": "", "protocol": _quick(energy=True)}
    answer = bench.run(str(root), asked, lambda beat: None, str(tmp_path / "empty"))
    assert answer["energy"] is None
    assert "no sensor" in answer["notes"][0]


def test_two_take_turns(root: Path) -> None:
    asked = {"name": "sum", "release": RELEASE, "variant": ""}
    beats: list[dict[str, Any]] = []
    answer = bench.run_pair(
        str(root),
        {"first": asked, "second": {**asked, "variant": VARIANT}, "protocol": _quick(processes=2)},
        beats.append,
    )
    reply = msgspec.convert(json.loads(json.dumps(answer)), protocol.PairReply)
    assert len(reply.first.processes) == len(reply.second.processes) == 2
    assert {one["processes"] for one in beats} == {4}
    assert len(reply.first.between) == 3


def test_the_turns_are_a_b_b_a(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which subject each process had, from what comes back as its process."""
    first = bench.Subject("a", "onnxruntime", "system:onnxruntime", "a.onnx", "", "python")
    subjects = {"a": first, "b": first._replace(variant="b")}
    monkeypatch.setattr(bench, "find_subject", lambda root, asked, inputs: subjects[asked.variant])
    known = {"runtime_version": "1", "build": "", "delegates": [], "overhead_ns": 1}
    calls: list[str] = []

    def child(self: Any, subject: bench.Subject, *rest: Any) -> dict[str, Any]:
        calls.append(subject.variant)
        return {**known, "process": f"{subject.variant}{len(calls)}"}

    monkeypatch.setattr(bench._Session, "_child", child)
    sides = {
        side: {"name": "sum", "release": RELEASE, "variant": name} for side, name in (("first", "a"), ("second", "b"))
    }
    answer = bench.run_pair("", {**sides, "protocol": _quick(processes=3)}, lambda beat: None)
    assert "".join(calls) == "abbaab"
    assert answer["first"]["processes"] == ["a1", "a4", "a5"]
    assert answer["second"]["processes"] == ["b2", "b3", "b6"]


def test_a_batch_is_as_the_model_allows(root: Path) -> None:
    (process,) = _ask(root, processes=1, batch=3, most_samples=3).processes
    assert len(process.samples_ns) == 3


def test_a_core_that_is_not_there_is_refused(root: Path) -> None:
    with pytest.raises(Fault, match="no process run on core 4096"):
        _ask(root, pin=(4096,))
    assert _ask(root, processes=1, pin=(min(os.sched_getaffinity(0)),), most_samples=3).processes


def test_a_hot_board_is_waited_for_and_said_where_it_stays_hot(tmp_path: Path) -> None:
    tree = _tree(tmp_path, {**PI, "sys/class/thermal/thermal_zone1/temp": "71000\n"})
    cooler = preflight.Cooler(60.0, 0.05, tree, pause=0.01)
    heard: list[float] = []
    cooler.wait(heard.append)
    gate = msgspec.convert(cooler.gate(), Gate)
    assert (gate.reached, gate.temperature_c, gate.wanted_c) == (False, 71.0, 60.0)
    assert gate.waited_s == pytest.approx(0.05)
    assert heard == [71.0] * 5

    def cools(heat: float) -> None:
        (tmp_path / "sys/class/thermal/thermal_zone1/temp").write_text("59000\n")

    patient = preflight.Cooler(60.0, 5.0, tree, pause=0.01)
    patient.wait(cools)
    gate = msgspec.convert(patient.gate(), Gate)
    assert gate.reached and gate.temperature_c == 59.0
    assert preflight.Cooler(60.0, 5.0, str(tmp_path / "none")).gate() is None
    idle = preflight.Cooler(0.0, 5.0, tree)
    idle.wait(heard.append)
    assert idle.gate() is None


def test_a_child_dies_with_its_agent(root: Path, tmp_path: Path) -> None:
    """The agent is killed in the middle of a process: nothing of it goes on heating the board."""
    archive = tmp_path / "agent.pyz"
    archive.write_bytes(agent_pyz())
    how = _quick(samples=10_000_000, most_samples=10_000_000, seconds=60.0)
    asked = json.dumps({"name": "sum", "release": RELEASE, "variant": "", "protocol": how}) + "\n"
    command = [sys.executable, "-I", "-S", str(archive), "bench", str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdin is not None and agent.stdout is not None
        agent.stdin.write(asked.encode())
        agent.stdin.close()
        while json.loads(agent.stdout.readline())["beat"]["stage"] != "timing":
            pass
        agent.kill()
    end = time.monotonic() + 20
    while _running(archive) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _running(archive)


def _running(archive: Path) -> list[str]:
    """Processes that run code of this archive."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if os.fsencode(archive) in words:
            found.append(entry.name)
    return found


@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", "onnx"), ("litert", "tflite")])
def test_what_timing_takes_is_measured_with_a_model_that_computes_nothing(runtime: str, kind: str) -> None:
    from edgepack.device import bench_child

    assert 0 < bench_child.harness_overhead_ns(runtime, 1) < 1_000_000


def test_operators_of_litert_come_from_its_own_profiler(tmp_path: Path, subtract_tflite: Any) -> None:
    from edgepack.device import litert_profile, run

    found = litert_profile.operators(str(subtract_tflite()), BenchProtocol(), seconds=0.2, most=20)  # type: ignore[arg-type]
    if not run.version_of("litert").startswith(litert_profile.KNOWN):
        assert "not available" in found["note"]
        return
    (operator,) = found["found"]
    assert "Subtract" in operator["kind"] or "SUB" in operator["kind"]
    assert operator["calls"] == 1


def test_a_runtime_without_a_profiler_says_so() -> None:
    from edgepack.device import bench_ops

    found = bench_ops.operators({"runtime": "tflite-runtime"}, BenchProtocol(), _Deaf())  # type: ignore[arg-type]
    assert found["found"] == [] and "not available" in found["note"]


class _Deaf:
    def tell(self, beat: dict[str, Any]) -> None:
        pass


@pytest.mark.parametrize(
    ("medians", "settled"),
    [
        ([100, 100], False),
        ([130, 110, 100], False),
        ([101, 100.5, 100], True),
        ([100, 120, 90], True),
        ([90, 100, 110], False),
    ],
)
def test_a_warm_up_is_over_when_its_windows_neither_rise_nor_fall(medians: list[int], settled: bool) -> None:
    from edgepack.device import bench_child

    assert bench_child.settled(medians) is settled


def test_conditions_of_a_board_that_tells_everything(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    more = {
        f"{cpus}/cpu1/cpufreq/scaling_governor": "performance\n",
        f"{cpus}/cpu0/cpufreq/scaling_min_freq": "600000\n",
        f"{cpus}/cpu0/cpufreq/scaling_max_freq": "1800000\n",
        "sys/class/hwmon/hwmon3/name": "rpi_volt\n",
        "sys/class/hwmon/hwmon3/in0_lcrit_alarm": "1\n",
        "sys/class/power_supply/BAT0/type": "Battery\n",
        "sys/class/power_supply/BAT0/status": "Discharging\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "0\n",
        "proc/meminfo": "MemTotal: 3884000 kB\nMemAvailable: 3000000 kB\nCached: 812000 kB\n",
        "proc/vmstat": "pgpgin 5\npswpin 40\npswpout 2\n",
        "proc/uptime": "86400.31 12345.6\n",
    }
    told = _conditions(_tree(tmp_path, {**PI, **more}))
    assert told.governors == ("ondemand", "performance")
    assert told.mhz_limits == (600, 1800)
    assert (told.throttled, told.undervoltage) == (0, True)
    assert told.power == "battery"
    assert (told.page_cache_kb, told.swapped_pages, told.uptime_s) == (812_000, 42, 86_400)


@pytest.mark.parametrize(("online", "power"), [("1", "mains"), ("0", None)])
def test_a_supply_that_is_on_line_is_mains(tmp_path: Path, online: str, power: str | None) -> None:
    supply = {"sys/class/power_supply/AC/type": "Mains\n", "sys/class/power_supply/AC/online": online}
    assert _conditions(_tree(tmp_path, supply)).power == power


def test_others_at_work_are_seen_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 200 ticks that pass in the look, 60 went to somebody: 30 %."""
    stat = tmp_path / "proc/stat"
    _tree(tmp_path, {"proc/stat": "cpu  100 0 50 800 50 0 0 0 0 0\n", "proc/version": "Linux 6.6.31 #1\n"})
    monkeypatch.setattr(preflight.time, "sleep", lambda _: stat.write_text("cpu  140 0 60 930 60 5 5 0 0 0\n"))
    looked = preflight.look(str(tmp_path))
    assert looked["busy"] == pytest.approx(0.3)
    assert looked["kernel"] == "Linux 6.6.31 #1"
    assert looked["cpus"] == sorted(os.sched_getaffinity(0))


def test_the_tool_is_asked_once_a_second_between_blocks(tmp_path: Path) -> None:
    tool = _script(tmp_path / "vcgencmd", f"echo asked >> {tmp_path}/log; echo throttled=0x5")
    glances = conditions.Glances(_tree(tmp_path / "tree", PI), tool)
    seen = [glances.look() for _ in range(20)]
    assert {one["throttled"] for one in seen} == {5}
    assert (tmp_path / "log").read_text().count("asked") == 1
