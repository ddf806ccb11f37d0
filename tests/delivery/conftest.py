"""Real bundles of a tiny ONNX model, and a runtime lock whose one wheel lends a board this host's own onnxruntime."""

from __future__ import annotations

import platform
import shutil
import site
import sys
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgepack import boards, digest
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.cli.progress import Plain
from edgepack.lock import RuntimeLock, Wheel
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.target import Target
from tests.manifests import manifest_of, variant_of

PROFILE = boards.default_profile("loopback")
MakeBundle = Callable[..., Bundle]


@pytest.fixture(scope="session")
def lock(test_home: Path, tmp_path_factory: pytest.TempPathFactory) -> RuntimeLock:
    """A lock that fits a loopback board on this machine: a wheel of one line, a path to this environment's packages."""
    onnxruntime = pytest.importorskip("onnxruntime")
    name = "hostruntime-1.0-py3-none-any.whl"
    wheel = tmp_path_factory.mktemp("wheel") / name
    packages = next(path for path in site.getsitepackages() if Path(path, "onnxruntime").is_dir())
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("hostruntime.pth", packages + "\n")
        archive.writestr("hostruntime-1.0.dist-info/METADATA", "Name: hostruntime\nVersion: 1.0\n")
        archive.writestr("hostruntime-1.0.data/scripts/tool", "#!python\n")
    data = wheel.read_bytes()
    kept = test_home / "wheels/sha256" / digest.hex_of(digest.of_bytes(data)) / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(wheel, kept)
    libc, version = platform.libc_ver()
    return RuntimeLock(
        runtime="onnxruntime",
        version=onnxruntime.__version__,
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        machine=platform.machine(),
        libc=libc or "musl",
        needs_glibc=version,
        wheels=(Wheel("hostruntime", "1.0", name, digest.of_bytes(data), len(data)),),
    )


@pytest.fixture(scope="session")
def make_bundle(lock: RuntimeLock, tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """make_bundle(version, bias=…, padding=…, golden_error=…, locks=…): y = x @ ones + bias, as a bundle.

    padding: bytes that the model file is larger by; work: products with a matrix that it computes for nothing
    golden_error: how far the golden outputs are off
    """

    def make(
        version: str = "1.0.0",
        *,
        name: str = "sum",
        bias: float = 1.0,
        padding: int = 0,
        work: int = 0,
        golden_error: float = 0.0,
        profile: str = PROFILE,
        default_runtime: RuntimeName = "onnxruntime",
        runtimes: dict[str, RuntimeRange] | None = None,
        locks: tuple[RuntimeLock, ...] | None = None,
    ) -> Bundle:
        x = np.arange(12, dtype=np.float32).reshape(3, 4)
        y = x @ np.ones((4, 3), np.float32) + np.float32(bias + golden_error)
        golden = write_golden((x,), (y,))
        model = affine(bias, padding, work)
        other = affine(bias, 64)
        variants = [
            variant_of(f"{name}.{profile}.{precision}.onnx", data, golden, runtime=runtime)
            for precision, data, runtime in (("fp32", model, default_runtime), ("fp16", other, "onnxruntime"))
        ]
        locks = (lock,) if locks is None else locks
        ranges = runtimes or {"onnxruntime": RuntimeRange(">=1.19,<2")}
        manifest = manifest_of(name, version, profile, variants, locks, runtimes=ranges)
        packed = [digest.canonical_json(one) for one in locks]
        blobs = {digest.of_bytes(data): data for data in (model, other, golden, *packed)}
        return pack(manifest, blobs, tmp_path_factory.mktemp("bundle"))

    return make


def affine(bias: float, padding: int, work: int = 0) -> bytes:
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])]
    weights = [("w", np.ones((4, 3))), ("b", np.full(3, bias))]
    if work:
        nodes[1] = helper.make_node("Add", ["m", "b"], ["z"])
        names = [f"s{i}" for i in range(work + 1)]
        nodes += [helper.make_node("MatMul", ["x", "wide"], ["s0"])]
        nodes += [helper.make_node("MatMul", [a, "square"], [b]) for a, b in pairwise(names)]
        nodes += [
            helper.make_node("MatMul", [names[-1], "none"], ["nothing"]),
            helper.make_node("Add", ["z", "nothing"], ["y"]),
        ]
        weights += [("wide", np.ones((4, 256))), ("square", np.eye(256)), ("none", np.zeros((256, 3)))]
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights],
        doc_string=np.random.default_rng(7).bytes((padding + 1) // 2).hex(),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def board(test_home: Path, progress: Plain, request: pytest.FixtureRequest) -> Iterator[Target]:
    """A loopback board of the test's own, empty."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:40].strip("-")
    (target,) = boards.up(f"d-{name}", "loopback", "", 1, progress)
    yield target
    boards.down(target.name, progress)


@pytest.fixture
def root(board: Target, test_home: Path) -> Path:
    """Edgepack's folder on that board."""
    return test_home / "boards" / board.name / "home/.edgepack"
