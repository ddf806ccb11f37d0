"""What a delivery host installs: the wheel with its core dependencies, in an environment of its own, far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepack
from edgepack import boards

pytestmark = [
    pytest.mark.frameworks,  # builds the bundle that is then delivered without them
    pytest.mark.network,
    pytest.mark.board,
    pytest.mark.xdist_group("core-install"),  # installed once
]
CHECKOUT = Path(__file__).parent.parent
FRAMEWORKS = (
    "torch",
    "tensorflow",
    "keras",
    "onnx",
    "onnxruntime",
    "ai_edge_litert",
    "litert_torch",
    "matplotlib",
    "sklearn",
)
MEMORY_MB = 150

PROFILE = """schema = "edgepack.profile/1"
title = "This machine"
extends = "{base}"
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["fp32"]
"""
PEAK = """
import re, sys
from edgepack.cli import run
code = run(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""


@dataclass(frozen=True)
class Core:
    """An environment with the wheel and what it depends on. folder: where commands run; environ: with a home of its own"""

    wheel: Path
    bin: Path
    folder: Path
    environ: dict[str, str]

    def run(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(self.bin / "edgepack"), *map(str, words)],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=180,
        )
        assert done.returncode == code, f"{words} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def ask(self, *words: object) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def python(self, program: str, *words: object) -> str:
        command = [str(self.bin / "python"), "-c", program, *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, test_home: Path) -> Iterator[Core]:
    place = tmp_path_factory.mktemp("core with a space")
    pip = ("-m", "pip", "--quiet", "--disable-pip-version-check")

    def python(*words: object, python: Path = Path(sys.executable)) -> None:
        done = subprocess.run([str(python), *map(str, words)], cwd=place, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"

    python(*pip, "wheel", "--no-deps", "--wheel-dir", place, CHECKOUT)
    (wheel,) = place.glob("edgepack-*.whl")
    python("-m", "venv", place / "venv")
    python(*pip, "install", "--constraint", CHECKOUT / "constraints.txt", wheel, python=place / "venv/bin/python")
    home = place / "home"
    home.mkdir()
    (home / "wheels").symlink_to(test_home / "wheels")
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    made = Core(wheel, place / "venv/bin", place, {**environ, "EDGEPACK_HOME": str(home)})
    yield made
    made.run("board", "down", "plain")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two versions of a tiny model for this machine, built by the full environment that the tests run in."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("bundles")
    profile = folder / "plain.toml"
    profile.write_text(PROFILE.format(base=boards.default_profile("loopback")))
    weights = numpy_helper.from_array(np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [weights],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "net.onnx")
    first, second = (
        edgepack.build(folder / "net.onnx", [str(profile)], folder, version=version)[0].bundle.path
        for version in ("1.0.0", "1.1.0")
    )
    return first, second


def test_the_wheel_carries_the_shipped_data(core: Core) -> None:
    packed = set(zipfile.ZipFile(core.wheel).namelist())
    for folder, place in (("profiles", "edgepack/data/profiles"), ("targets", "edgepack/data/targets")):
        files = {path.relative_to(CHECKOUT / folder) for path in (CHECKOUT / folder).rglob("*") if path.is_file()}
        assert len(files) >= 4
        assert {f"{place}/{file.as_posix()}" for file in files} <= packed
    digits = {f"edgepack/demo/digits/{name}" for name in ("data.py", "model.py", "train.py", "edgepack.toml")}
    assert {*digits, "edgepack/reports/style.css", "edgepack/device/__main__.py"} <= packed
    assert not [name for name in packed if name.startswith("tests/") or name.endswith(".pyc")]


def test_no_framework_comes_along(core: Core) -> None:
    program = "import importlib.util, sys; print([n for n in sys.argv[1:] if importlib.util.find_spec(n)])"
    assert core.python(program, *FRAMEWORKS).strip() == "[]"
    where = core.python("import edgepack; print(edgepack.__file__)").strip()
    assert Path(where).is_relative_to(core.folder)


def test_the_shipped_data_is_found(core: Core) -> None:
    assert "Commands:" in core.run("--help").stdout
    shipped = {path.stem for path in (CHECKOUT / "profiles").glob("*.toml")}
    assert {profile["name"] for profile in core.ask("profile", "list")["profiles"]} == shipped
    program = "from edgepack.home import shipped; print(*(p.stem for p in (shipped('targets') / 'boards').glob('*')))"
    assert set(core.python(program).split()) == {path.stem for path in (CHECKOUT / "targets/boards").glob("*")}


def test_a_bundle_is_delivered_measured_and_taken_back(core: Core, bundles: tuple[Path, Path]) -> None:
    first, second = bundles
    assert core.ask("inspect", first)["manifest"]["version"] == "1.0.0"
    core.run("verify", first)
    core.run("board", "up", "plain", "--profile", first.parent / "plain.toml")
    assert "plain" in {target["name"] for target in core.ask("target", "list")["targets"]}
    (checked,) = core.ask("target", "check", "plain")["targets"]
    assert checked["facts"]["board"] == "loopback"

    core.run("push", first, "plain", code=6)  # nobody signed it
    for bundle in bundles:
        (pushed,) = core.ask("push", bundle, "plain", "--allow-unsigned")["targets"]
        assert pushed["outcome"] == "activated"
    report = core.ask("bench", second, "plain", "--processes", 2, "--samples", 20)
    assert report["summary"]["p50_ns"] > 0 and report["validity"]["verdict"] != "valid"  # a loopback board is no device

    (back,) = core.ask("rollback", "plain", "net")["targets"]
    assert back["outcome"] == "rolled-back"
    (state,) = core.ask("status", "plain")["targets"]
    (active,) = (release for release in state["releases"] if release["active"])
    assert active["version"] == "1.0.0" and active["verified"]


@pytest.mark.parametrize("verb", ["push", "bench", "status"])
def test_a_delivery_stays_small_in_memory(core: Core, bundles: tuple[Path, Path], verb: str) -> None:
    core.run("board", "up", "plain", "--profile", bundles[0].parent / "plain.toml")
    core.run("push", bundles[0], "plain", "--allow-unsigned", "--downgrade")
    words = {"push": ["push", bundles[1], "plain", "--allow-unsigned"], "bench": ["bench", bundles[0], "plain"]}
    peak_kb = int(core.python(PEAK, *words.get(verb, ["status", "plain"])).split()[-1])
    assert 10_000 < peak_kb < MEMORY_MB * 1000, f"{verb} took {peak_kb / 1000:.0f} MB"


MISSING: dict[str, tuple[Callable[[Path], tuple[object, ...]], str]] = {
    "an ONNX file": (lambda bundles: ("build", bundles / "net.onnx", "-p", "rpi4", "-o", "out"), "[onnx]"),
    "a torch module": (lambda _: ("build", "net.py:build", "--input", "x=1,3", "-p", "rpi4", "-o", "out"), "[torch]"),
    "a Keras model": (lambda _: ("build", "keras_net.py:build", "-p", "rpi4", "-o", "out"), "[keras]"),
    "the demo": (lambda _: ("demo", "-o", "out"), "[demo]"),
}


@pytest.mark.parametrize("what", MISSING)
def test_a_missing_extra_is_named(core: Core, bundles: tuple[Path, Path], what: str) -> None:
    (core.folder / "net.py").write_text("from torch import nn\n\n\ndef build():\n    return nn.Linear(3, 1)\n")
    (core.folder / "keras_net.py").write_text("import keras\n\n\ndef build():\n    return keras.Sequential()\n")
    words, extra = MISSING[what]
    done = core.run(*words(bundles[0].parent), code=2)
    assert f"pip install 'edgepack{extra}'" in done.stderr and "Traceback" not in done.stderr
    assert not (core.folder / "out").exists()
