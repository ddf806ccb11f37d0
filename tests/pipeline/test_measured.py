"""`build --target`: what is packed was measured on a board first, and is no slower there than its float parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edgepack import boards, delivery, pipeline
from edgepack.bundle import open_bundle
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError
from edgepack.names import VariantId

pytestmark = [pytest.mark.frameworks, pytest.mark.board, pytest.mark.network]

PROFILE = """
schema = "edgepack.profile/1"
title = "this machine, ONNX alone"
extends = "linux-x86_64"
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["w8d"]
[budget]
max_drop = 1.0
max_memory_mb = 2000
"""


def write_net(path: Path) -> None:
    """Two dense layers; w8d of so small a net costs more than it saves."""
    import onnx
    from onnx import helper, numpy_helper

    random = np.random.default_rng(0)
    weights = {"a": random.standard_normal((16, 32)), "b": random.standard_normal((32, 4))}
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    write_net(folder / "net.onnx")
    (folder / "here.toml").write_text(PROFILE)
    (folder / "both.toml").write_text(PROFILE.replace('["w8d"]', '["w8d", "fp32"]'))
    x = np.random.default_rng(1).standard_normal((40, 16)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return folder


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgepack", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=300)


def test_every_latency_in_the_document_was_measured_and_nothing_stays_on_the_board(project: Path) -> None:
    (board,) = boards.up("measured", "loopback", str(project / "both.toml"), 1, Plain())
    try:
        flags = ("net.onnx", "-p", "both.toml", "--calibration", "data.npz", "--target", board.name, "-o", "out")
        refused = run(project, "build", *flags)
        assert refused.returncode == 6 and "unsigned" in refused.stderr, refused.stderr
        done = run(project, "build", *flags, "--allow-unsigned", "--json")
        assert done.returncode == 0, done.stderr
        (bundle,) = json.loads(done.stdout)["bundles"]
        variants = {variant["precision"]: variant for variant in bundle["variants"]}
        for variant in variants.values():
            (measured,) = variant["measured"]
            assert variant["latency_ms"] == measured["p50_ms"] > 0
            assert variant["p90_ms"] >= variant["latency_ms"] and variant["memory_mb"] > 10
            assert (measured["target"], measured["stand_in"]) == (board.name, "loopback")
        small, whole = variants["w8d"], variants["fp32"]
        slower = small["measured"][0]["against_parent"]["low"] > 1
        assert slower == ("measured slower" in small["reason"])
        assert whole["measured"][0]["against_parent"] is None and whole["status"] != "rejected"
        packed = {record.precision for record in open_bundle(project / bundle["path"]).manifest.variants}
        assert packed == {precision for precision, one in variants.items() if one["status"] != "rejected"}
        assert open_bundle(project / bundle["path"]).manifest.name == "net"
        tuned = run(project, "tune", *flags, "--allow-unsigned", "--json")
        assert tuned.returncode == 0, tuned.stderr
        search = json.loads(tuned.stdout)
        assert search["cost"] == "latency_ms" and len(search["trials"]) == search["recipes"] == 2
        assert all(trial["latency_ms"] > 0 for trial in search["trials"])
        assert all(variant["measured"] for variant in search["bundle"]["variants"])
        (status,) = delivery.status([board], Plain())
        assert status.releases == ()
    finally:
        boards.down("measured", Plain())


def test_who_names_a_board_of_another_profile_hears_of_it_before_the_work(project: Path) -> None:
    (board,) = boards.up("other", "loopback", str(project / "both.toml"), 1, Plain())
    try:
        done = run(project, "build", "net.onnx", "-p", "rpi4", "--target", board.name, "-o", "out2")
        assert done.returncode == 2 and "nothing is built for that" in done.stderr
        assert not (project / "out2").exists()
    finally:
        boards.down("other", Plain())


def test_what_no_board_can_use_is_told_by_the_boards_reasons(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is not to blame where a board has no runtime for it."""

    def refuse(bundle: object, profile: str, parents: Mapping[VariantId, object]) -> dict[VariantId, str]:
        return dict.fromkeys(parents, "on kitchen: no onnxruntime there")

    monkeypatch.chdir(project)
    wanted = pipeline.request("net.onnx", ("both.toml",), {"data": {"calibration": "data.npz"}})
    with pytest.raises(BoardError, match="runs where it was to be measured") as refused:
        pipeline.build(wanted, project / "out3", Plain(), scales=refuse)
    said = str(refused.value)
    assert said.count("on kitchen: no onnxruntime there") == 2 and "leave --target out" in said and "model" not in said
    assert not (project / "out3").exists()


def test_how_to_measure_means_nothing_without_a_board(project: Path) -> None:
    done = run(project, "build", "net.onnx", "-p", "rpi4", "--allow-unsigned", "-o", "out2")
    assert done.returncode == 2 and "--target" in done.stderr
