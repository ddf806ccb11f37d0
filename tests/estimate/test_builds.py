"""A build without a board shows intervals in fields of their own, and rests them on the user's own runs where there are enough."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepack import history
from edgepack.cli import run
from edgepack.names import parts_of
from edgepack.report import BundleRef, Report, RuntimeRef, Validity
from edgepack.work import Work

pytestmark = pytest.mark.frameworks

PROFILE = """
schema = "edgepack.profile/1"
title = "ours"
extends = "rpi4"
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["fp32", "w8d"]
sparsities = [0.0]
"""


@pytest.fixture
def built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[], dict[str, dict]]:
    import onnx
    from onnx import helper, numpy_helper

    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3]),
        ],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 16, 40, 40])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 64, 1, 1])],
        [numpy_helper.from_array(random.standard_normal((64, 16, 3, 3)).astype(np.float32) / 12, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "net.onnx"
    )
    np.savez(tmp_path / "data.npz", x=random.standard_normal((8, 16, 40, 40)).astype(np.float32))
    (tmp_path / "mine.toml").write_text(PROFILE)

    def build() -> dict[str, dict]:
        capfd.readouterr()
        assert run(["build", "net.onnx", "-p", "mine.toml", "-o", "out", "--calibration", "data.npz", "--json",
                    "--html", "build.html"]) == 0  # fmt: skip
        (bundle,) = json.loads(capfd.readouterr().out)["bundles"]
        return {variant["precision"]: variant for variant in bundle["variants"]}

    return build


def test_estimates_are_never_latencies(
    built: Callable[[], dict[str, dict]], make_report: Callable[..., Report]
) -> None:
    first = built()
    assert first["fp32"]["latency_ms"] is None
    low, high = first["fp32"]["estimate_ms"]
    assert 0 < low < high
    assert (first["fp32"]["estimate_coverage"], first["fp32"]["estimate_basis"]) == (0.9, "published tables")
    assert first["w8d"]["estimate_ms"] is None
    assert first["w8d"]["estimate_basis"].startswith(
        "no published table has w8d; 4 models of about its size, measured by"
    )
    assert "in w8d with onnxruntime on such a board, give one (so far 0)" in first["w8d"]["estimate_basis"]
    page = Path("build.html").read_text()  # of the folder that the build ran in
    assert "Estimated, not measured" in page and "published tables" in page
    for index in range(5):
        history.keep(_own(make_report, f"m{index}", 10.0 + index, "suspect" if index == 4 else "valid"))
    second = built()
    assert second["fp32"]["estimate_ms"] == pytest.approx([10.0, 13.0], rel=0.02)
    assert (second["fp32"]["estimate_coverage"], second["fp32"]["estimate_basis"]) == (0.6, "own reports")
    statuses = [{one["id"]: (one["status"], one["reason"]) for one in each.values()} for each in (first, second)]
    assert statuses[0] == statuses[1]


def _own(make_report: Callable[..., Report], name: str, ms: float, verdict: str) -> Report:
    made = make_report(ms, work=Work(dense=40 * 40 * 64 * 16 * 9), variant=f"{name}.mine.fp32.onnx")
    return msgspec.structs.replace(
        made,
        bundle=BundleRef(name, "1.0.0", made.bundle.digest),
        runtime=RuntimeRef("onnxruntime", "1.20", 1, None),
        validity=msgspec.convert({"verdict": verdict, "reasons": []}, Validity),
    )


def test_a_variant_s_name_is_read_as_it_was_written() -> None:
    assert parts_of("kws.rpi4.w8a8-s50-qat.tflite", "kws") == ("rpi4", "w8a8")
    assert parts_of("a.b.rpi-zero-2w.fp32.onnx", "a.b") == ("rpi-zero-2w", "fp32")
    assert parts_of("kws.rpi4.w7.tflite", "kws") is None
    assert parts_of("kws.rpi4.fp32.tflite", "other") is None
