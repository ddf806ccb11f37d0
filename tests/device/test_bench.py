"""Fresh processes on a board, and what the board says of its own state."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepack import protocol
from edgepack.device import bench, bench_process, conditions, release
from edgepack.device.faults import Fault
from edgepack.report import BenchProtocol, Conditions

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
    import subprocess

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
    monkeypatch.setattr(bench_process, "START_SECONDS", 0.2)
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
