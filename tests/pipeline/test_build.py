"""`edgepack build` from the outside: every kind of source becomes a bundle whose files answer like the source."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepack import cli, runtimes
from edgepack.bundle import open_bundle, read_golden

pytestmark = pytest.mark.frameworks

LINEAR = '''
"""The simplest model anybody starts with."""
import torch
from torch import nn


class LinearRegression(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, x):
        return self.linear(x)


def build():
    torch.manual_seed(0)
    model = LinearRegression()
    x = torch.randn(512, 10)
    y = x @ torch.arange(10.0).unsqueeze(1) + 3
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model
'''


def build_afresh(cwd: Path, *arguments: object, home: Path, seed: str) -> dict:
    """A build in a process of its own, with its own home and order of sets."""
    env = {**os.environ, "PYTHONHASHSEED": seed, "EDGEPACK_HOME": str(home)}
    command = [sys.executable, "-m", "edgepack", "build", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["bundles"][0]


@pytest.fixture
def build(capfd, monkeypatch) -> Callable[..., dict]:
    """A build in this process, which has the frameworks loaded."""

    def build(cwd: Path, *arguments: object) -> dict:
        code, out, err = run_here(cwd, capfd, monkeypatch, "build", *arguments, "--json")
        assert code == 0, err
        return json.loads(out)["bundles"][0]

    return build


def run_here(cwd: Path, capfd, monkeypatch, *arguments: object) -> tuple[int, str, str]:
    monkeypatch.chdir(cwd)
    capfd.readouterr()
    code = cli.run([str(argument) for argument in arguments])
    return code, *capfd.readouterr()


@pytest.fixture(scope="module")
def linear(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("linear")
    (folder / "model.py").write_text(LINEAR)
    x = np.random.default_rng(1).standard_normal((64, 10)).astype(np.float32)
    y = x @ np.arange(10, dtype=np.float32)[:, None] + 3
    np.savez(folder / "data.npz", x=x, y=y)
    flags = ("--calibration", "data.npz", "--evaluation", "data.npz", "--metric", "mse", "--name", "line")
    arguments = ("model.py:build", "-p", "linux-x86_64", "-o", "out", *flags)
    return folder, build_afresh(folder, *arguments, home=folder / "home", seed="1")


def test_linear_regression_goes_through_as_smoothly_as_a_resnet(linear):
    _, document = linear
    shipped = [variant for variant in document["variants"] if variant["status"] != "rejected"]
    assert {variant["format"] for variant in document["variants"]} == {"tflite", "onnx"}
    assert shipped and document["baseline"]["score"] < 1e-4
    assert document["default"] in {variant["id"] for variant in shipped}


def test_what_is_packed_answers_as_the_bundle_says(linear, tmp_path):
    folder, document = linear
    opened = open_bundle(folder / document["path"])
    opened.verify()
    for record in opened.manifest.variants:
        file = tmp_path / record.id
        file.write_bytes(opened.read_blob(record.digest, record.size))
        inputs, expected = read_golden(opened.read_blob(record.golden, record.golden_size))
        run = runtimes.open_file(file, record.format)
        answers = [run(tuple(array[i : i + 1] for array in inputs))[0] for i in range(len(inputs[0]))]
        np.testing.assert_allclose(np.concatenate(answers), expected[0], atol=record.tolerance[0])


def test_the_same_inputs_give_the_same_bytes_anywhere(linear, tmp_path):
    """Another home, another working folder, another order of every set."""
    folder, document = linear
    data = folder / "data.npz"
    flags = ("--calibration", data, "--evaluation", data, "--metric", "mse", "--name", "line")
    arguments = (f"{folder}/model.py:build", "-p", "linux-x86_64", "-o", "out", *flags)
    assert build_afresh(tmp_path, *arguments, home=tmp_path / "home", seed="7")["digest"] == document["digest"]


KERAS = """
import os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras
keras.utils.set_random_seed(0)
layers = keras.layers
model = keras.Sequential([
    keras.Input((8, 8, 1)),
    layers.Conv2D(32, 3, padding="same", use_bias=False), layers.BatchNormalization(), layers.ReLU(),
    layers.DepthwiseConv2D(3, padding="same"), layers.BatchNormalization(), layers.ReLU(),
    layers.GlobalAveragePooling2D(), layers.Dense(10),
])
model.save("net.keras")
"""


@pytest.fixture(scope="module")
def keras_model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", KERAS], cwd=folder, check=True, capture_output=True)
    x = np.random.default_rng(0).random((40, 8, 8, 1), dtype=np.float32)
    np.savez(folder / "data.npz", x=x)
    return folder


def test_a_keras_build_is_reproducible(keras_model, tmp_path):
    flags = ("-p", "rpi4", "--calibration", keras_model / "data.npz", "--name", "net")
    first = build_afresh(keras_model, "net.keras", *flags, "-o", tmp_path / "a", home=tmp_path / "h1", seed="1")
    second = build_afresh(
        tmp_path, keras_model / "net.keras", *flags, "-o", tmp_path / "b", home=tmp_path / "h2", seed="2"
    )
    assert first["digest"] == second["digest"]


def write_profile(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(f'schema = "edgepack.profile/1"\ntitle = "{name}"\nextends = "rpi4"\n{text}')
    return path


def test_files_that_came_out_are_sources_in_turn(keras_model, tmp_path, build):
    """Keras to float files; the TFLite and the ONNX file then go through the chain themselves, quantized ones as they are."""
    data = ("--calibration", keras_model / "data.npz", "--name", "net")
    float_only = write_profile(tmp_path, "float", '[compress]\nprecisions = ["fp32"]\nsparsities = [0.0]\n')
    packed = open_bundle(Path(build(keras_model, "net.keras", "-p", float_only, "-o", tmp_path, *data)["path"]))
    files = {record.format: tmp_path / f"net.{record.format}" for record in packed.manifest.variants}
    for record in packed.manifest.variants:
        files[record.format].write_bytes(packed.read_blob(record.digest, record.size))
    x = np.load(keras_model / "data.npz")["x"]
    answers = [np.concatenate([runtimes.open_file(files[f], f)((s[None],))[0] for s in x]) for f in ("tflite", "onnx")]
    np.testing.assert_allclose(*answers, atol=1e-4)
    for format, file in files.items():
        again = build(tmp_path, file, "-p", "rpi4", "-o", tmp_path / format, *data)
        assert {v["format"] for v in again["variants"] if v["status"] != "rejected"} == {"tflite", "onnx"}
        quantized = open_bundle(Path(again["path"]))
        record = next(v for v in quantized.manifest.variants if (v.format, v.precision) == (format, "w8a8"))
        small = tmp_path / f"int8.{format}"
        small.write_bytes(quantized.read_blob(record.digest, record.size))
    as_it_is = build(tmp_path, tmp_path / "int8.tflite", "-p", "rpi4", "-o", tmp_path / "int8", *data)
    assert {(v["precision"], v["status"] != "rejected") for v in as_it_is["variants"]} == {("w8a8", True)}


BAD = {
    "junk where a model should be": (("junk.onnx", "-p", "rpi4"), 3, ["junk.onnx"]),
    "samples of another shape": (("net.keras", "-p", "rpi4", "--calibration", "wrong.npz"), 3, ["wrong.npz", "shape"]),
    "NaN in the samples": (("net.keras", "-p", "rpi4", "--calibration", "nan.npz"), 3, ["nan.npz", "NaN"]),
    "evaluation without labels": (
        ("net.keras", "-p", "rpi4", "--evaluation", "data.npz", "--metric", "top1"),
        3,
        ["data.npz", "y"],
    ),
    "evaluation without a metric": (("net.keras", "-p", "rpi4", "--evaluation", "labelled.npz"), 3, ["metric"]),
    "an unknown metric": (
        ("net.keras", "-p", "rpi4", "--evaluation", "labelled.npz", "--metric", "topp1"),
        3,
        ["topp1", "top1"],
    ),
    "a budget nobody meets": (
        ("net.keras", "-p", "tight.toml", "--calibration", "data.npz"),
        4,
        ["max_size_mb", "tight"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error(keras_model, tmp_path, capfd, monkeypatch, case):
    arguments, code, hints = BAD[case]
    x = np.load(keras_model / "data.npz")["x"]
    (keras_model / "junk.onnx").write_bytes(os.urandom(1024))
    np.savez(keras_model / "wrong.npz", x=np.zeros((4, 7, 7), np.float32))
    np.savez(keras_model / "nan.npz", x=np.where(x > 0.99, np.nan, x))
    np.savez(keras_model / "labelled.npz", x=x, y=np.arange(len(x)) % 10)
    write_profile(keras_model, "tight", "[compress]\nsparsities = [0.0]\n[budget]\nmax_size_mb = 0.000001\n")
    found, out, err = run_here(keras_model, capfd, monkeypatch, "build", *arguments, "-o", tmp_path / "out")
    assert found == code, err
    assert all(hint in err for hint in hints), err
    assert "Traceback" not in err and not out
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_noise_stands_in_for_samples_only_with_a_warning(linear, tmp_path, capfd, monkeypatch):
    folder, _ = linear
    code, _, err = run_here(
        folder, capfd, monkeypatch, "build", "model.py:build", "-p", "rpi4", "--input", "x=1,10", "-o", tmp_path
    )
    assert code == 0 and "seeded noise" in err and "precision w8a8" in err, err
    (path,) = tmp_path.glob("*.edgepack")
    opened = open_bundle(path)
    record = opened.manifest.variants[0]
    inputs, outputs = read_golden(opened.read_blob(record.golden, record.golden_size))
    assert (inputs[0].shape, outputs[0].shape) == ((4, 10), (4, 1))
