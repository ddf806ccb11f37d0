"""Opening and running a model file, and what an application sees of a release."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.device import run

A = np.array([[1, 2, 3, 4]], np.float32)
B = np.array([[4, 3, 2, 2]], np.float32)

pytestmark = pytest.mark.frameworks


def test_onnx_answers_and_names_its_tensors(affine_onnx: Path) -> None:
    session = run.open_model(affine_onnx, "onnxruntime")
    assert session.inputs == [run.Tensor("x", (None, 4), "float32")]
    assert session.outputs == [run.Tensor("y", (None, 3), "float32")]
    assert session.version
    np.testing.assert_allclose(session.run([A])[0], [[11, 11, 11]])
    np.testing.assert_allclose(session.run([np.concatenate([A, B])])[0], [[11] * 3, [12] * 3])


def test_invoke_only_runs_what_was_prepared(affine_onnx: Path, subtract_tflite: Callable[..., Path]) -> None:
    onnx = run.open_model(affine_onnx, "onnxruntime")
    onnx.prepare([A])
    onnx.invoke_only()
    np.testing.assert_allclose(onnx.results()[0], [[11, 11, 11]])
    lite = run.open_model(subtract_tflite(), "litert")
    lite.prepare([A, B])
    lite.invoke_only()
    np.testing.assert_allclose(lite.results()[0], A - B)


@pytest.mark.parametrize("graph_order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("names", [("args_0", "args_1"), ("args_2", "args_10")])
def test_numbered_inputs_are_ordered_by_number(
    subtract_tflite: Callable[..., Path], names: tuple[str, str], graph_order: tuple[int, int]
) -> None:
    """`args_10` sorts before `args_2` as text, and the graph may list its inputs in any order."""
    session = run.open_model(subtract_tflite(names, graph_order), "litert")
    assert [tensor.name for tensor in session.inputs] == list(names)
    np.testing.assert_allclose(session.run([A, B])[0], A - B)


def test_other_names_keep_the_graph_order(subtract_tflite: Callable[..., Path]) -> None:
    session = run.open_model(subtract_tflite(("zebra", "ant")), "litert")
    assert [tensor.name for tensor in session.inputs] == ["zebra", "ant"]
    np.testing.assert_allclose(session.run([A, B])[0], A - B)


def test_a_file_without_signature_keeps_the_graph_order(subtract_tflite: Callable[..., Path]) -> None:
    session = run.open_model(subtract_tflite(signature=False), "litert")
    assert [tensor.name for tensor in session.inputs] == ["a", "b"]
    np.testing.assert_allclose(session.run([A, B])[0], A - B)


def test_quantized_tensors_take_and_give_real_values(subtract_tflite: Callable[..., Path]) -> None:
    session = run.open_model(subtract_tflite(scale=0.5, zero_point=-3), "litert")
    assert [tensor.dtype for tensor in (*session.inputs, *session.outputs)] == ["float32"] * 3
    answer = session.run([A, B])[0]
    assert answer.dtype == np.float32
    np.testing.assert_allclose(answer, A - B, atol=0.5)


def test_stored_integers_are_used_as_they_are(subtract_tflite: Callable[..., Path]) -> None:
    session = run.open_model(subtract_tflite(scale=0.5, zero_point=-3), "litert")
    stored = [run.quantize(array, session.quantized_inputs[0]) for array in (A, B)]
    np.testing.assert_array_equal(session.run(stored)[0], session.run([A, B])[0])
    assert session.run_raw(stored)[0].dtype == np.int8


@given(st.floats(1e-3, 10), st.integers(-128, 127), st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8))
def test_quantizing_rounds_to_the_nearest_step_or_clips(scale: float, zero_point: int, values: list[float]) -> None:
    how = run.Quantization(scale, zero_point, "int8")
    array = np.array(values, np.float32)
    stored = run.quantize(array, how)
    assert stored.dtype == np.int8
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    clipped = np.clip(array, low, high)
    assert np.all(np.abs(run.dequantize(stored, how) - clipped) <= scale * 0.5001 + 1e-3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([A], "1 input arrays given; expected 2: args_0, args_1"),
        ([A, B[:, :3]], "input 'args_1' has shape [1, 3]; expected [1, 4]"),
        ([A, B.astype(np.float64)], "input 'args_1' has dtype float64; expected float32"),
    ],
)
def test_wrong_arrays_are_named(subtract_tflite: Callable[..., Path], arrays: list[np.ndarray], message: str) -> None:
    session = run.open_model(subtract_tflite(), "litert")
    with pytest.raises(run.ModelError) as error:
        session.run(arrays)
    assert str(error.value) == message


@pytest.mark.parametrize(("runtime", "name"), [("litert", "junk.tflite"), ("onnxruntime", "junk.onnx")])
def test_a_broken_file_is_named(tmp_path: Path, runtime: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"no model" * 100)
    with pytest.raises(run.ModelError, match=name):
        run.open_model(tmp_path / name, runtime)


def test_missing_things_are_named(tmp_path: Path, affine_onnx: Path) -> None:
    with pytest.raises(run.ModelError, match="no such file"):
        run.open_model(tmp_path / "nowhere.onnx", "onnxruntime")
    with pytest.raises(run.ModelError, match="expected one of"):
        run.open_model(affine_onnx, "tensorflow")
    with pytest.raises(run.ModelError, match="package tflite-runtime"):
        run.open_model(affine_onnx, "tflite-runtime")


@pytest.fixture
def release(tmp_path: Path, affine_onnx: Path) -> Path:
    """A release as it lies on a board, with preprocessing and labels."""
    folder = tmp_path / ".edgepack/releases/sum" / ("ab" * 32)
    folder.mkdir(parents=True)
    shutil.copy(affine_onnx, folder / "sum.rpi4.fp32.onnx")
    shutil.copy(str(run.__file__), folder / "run.py")
    manifest = {
        "name": "sum",
        "version": "1.0.0",
        "default": "sum.rpi4.fp32.onnx",
        "labels": ["low", "high", "other"],
        "preprocessing": {"scale": 0.5, "mean": [1.0], "std": [2.0], "layout": ""},
        "variants": [{"id": "sum.rpi4.fp32.onnx", "runtime": "onnxruntime"}],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    current = tmp_path / ".edgepack/current"
    current.mkdir()
    (current / "sum").symlink_to(folder)
    return folder


def test_an_application_gets_preprocessing_and_labels(release: Path) -> None:
    model = run.load(release)
    raw = np.array([2, 4, 6, 8], np.uint8)  # → (x / 2 - 1) / 2 = 0, .5, 1, 1.5, whose sum is 3
    np.testing.assert_allclose(model(raw), [[4, 4, 4]])
    np.testing.assert_allclose(model(raw[None]), [[4, 4, 4]])
    assert model.classify(raw) == ("low", 4.0)
    assert (model.name, model.version) == ("sum", "1.0.0")


def test_an_application_finds_its_release_by_name(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(release.parents[3]))
    assert run.load("sum").variant == "sum.rpi4.fp32.onnx"
    with pytest.raises(run.ModelError, match="no release at"):
        run.load("product")
    with pytest.raises(run.ModelError, match="no variant 'x'"):
        run.load("sum", variant="x")


def test_a_release_runs_with_nothing_but_its_own_run_py(release: Path) -> None:
    """The copy in a release works from any folder, as a program of its own, with warnings as errors."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from run import load; print(load('sum')([2, 4, 6, 8]).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(release)], capture_output=True, text=True, cwd="/", check=False
    )
    assert done.stdout.strip() == "[[4.0, 4.0, 4.0]]", done.stderr


def test_layout_changes_move_the_channels() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    how = {"scale": 1.0, "mean": [0.0, 1.0, 2.0], "std": [1.0, 1.0, 2.0], "layout": "NHWC->NCHW"}
    ready = run.preprocess(image, how)
    assert ready.shape == (1, 3, 2, 4)
    assert ready.dtype == np.float32
    np.testing.assert_allclose(ready[0, 2], (image[0, :, :, 2].astype(np.float32) - 2) / 2)


def test_a_runtime_of_another_python_is_said(release: Path) -> None:
    key = "cd" * 32
    environment = release.parents[2] / "runtimes" / key / "lib/python3.7/site-packages"
    environment.mkdir(parents=True)
    (release / "release.json").write_text(json.dumps({"runtimes": {"onnxruntime": f"sha256:{key}"}}))
    with pytest.raises(run.ModelError, match="installed for another Python"):
        run.load(release)
