"""Three conversions that are known to succeed and to be wrong, each made by the real tool: the check refuses each of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgepack import evaluate, runtimes
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import TensorSpec
from edgepack.ports import Loaded
from edgepack.quiet import quiet
from edgepack.samples import over

pytestmark = [pytest.mark.frameworks]

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("EDGEPACK_TEST_CACHE", HERE.parents[1] / ".cache"))
ONNX2TF = (
    "onnx2tf==1.28.8",  # the last that runs on Python 3.11; what it imports without declaring it follows
    "onnx_graphsurgeon==0.6.1",
    "psutil==7.2.2",
    "sne4onnx==2.0.1",
    "sng4onnx==2.0.1",
    "tf_keras==2.21.0",
)


def refused(loaded: Loaded, path: Path) -> str:
    """What the check says of a conversion, the way a build asks: run it on samples, compare, insist on a float's precision."""
    rng = np.random.default_rng(3)
    inputs = tuple(rng.standard_normal((8, *spec.shape[1:]), np.float32) for spec in loaded.model.signature.inputs)
    samples = _samples(inputs)
    expected = over(loaded.run, samples)
    with pytest.raises((InexpressibleError, InputError)) as caught:
        actual = over(runtimes.open_file(path, path.suffix[1:]), samples)  # type: ignore[arg-type]
        evaluate.check_float(evaluate.parity(expected, actual), expected, actual)
    return str(caught.value)


def _samples(inputs):
    from edgepack.digest import of_bytes
    from edgepack.samples import Samples

    return Samples(inputs, None, of_bytes(b"3"))


@pytest.mark.parametrize("name", ["cnn", "linear"])
def test_keras_3_through_concrete_functions_without_freezing(name, load_source, tmp_path):
    """TFLiteConverter.from_concrete_functions([f], model) writes a small file without the weights: NaN, or what lay there."""
    import tensorflow as tf

    loaded = load_source(f"keras_nets.py:{name}")
    model = loaded.native.model
    spec = tf.TensorSpec(loaded.model.signature.inputs[0].shape, tf.float32)
    with quiet():
        function = tf.function(lambda x: model(x)).get_concrete_function(spec)
        data = tf.lite.TFLiteConverter.from_concrete_functions([function], model).convert()
    (tmp_path / "wrong.tflite").write_bytes(data)
    said = refused(loaded, tmp_path / "wrong.tflite")
    assert "NaN" in said or "infinity" in said or "of their range" in said


@pytest.mark.parametrize(("name", "shape"), [("lstm", (1, 12, 6)), ("transformer", (1, 12, 16))])
def test_tf2onnx_of_a_recurrent_or_attending_tflite_file(name, shape, load_source, convert_to, tmp_path):
    """The way there is right, the way back through tf2onnx is a file of the right shapes with the wrong answers."""
    import tf2onnx

    from edgepack.convert import onnx_files

    there = convert_to(load_source(f"torch_nets.py:{name}", TensorSpec("x", shape)), "tflite")
    assert there.parity.relative < 1e-5
    source = there.path.rename(tmp_path / "source.tflite")
    loaded = load_source(source.name, folder=tmp_path)
    with quiet():
        proto, _ = tf2onnx.convert.from_tflite(str(source), opset=18)
    onnx_files.write(proto, loaded.model.signature, tmp_path / "wrong.onnx")
    assert "of their range" in refused(loaded, tmp_path / "wrong.onnx")


@pytest.fixture(scope="module")
def onnx2tf() -> Iterator[Path]:
    """The packages of onnx2tf in a folder of their own, installed once: they would not fit the main environment."""
    folder = CACHE / "onnx2tf-1.28.8"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "onnx2tf.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            install = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--upgrade",
                "--target",
                str(folder),
            ]
            subprocess.run([*install, *ONNX2TF], check=True, capture_output=True, text=True, timeout=300)
            (folder / "complete").touch()
    yield folder


@pytest.mark.network
def test_onnx2tf_transposes_inputs_of_three_axes(onnx2tf, load_source, convert_to, tmp_path):
    """12 steps of 6 features become 6 of 12: an application that feeds what it fed the source is refused."""
    source = convert_to(load_source("torch_nets.py:lstm", TensorSpec("x", (1, 12, 6))), "onnx").path
    loaded = load_source(source.name, folder=source.parent)
    command = [sys.executable, HERE / "onnx2tf_runner.py", onnx2tf, source, tmp_path / "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "out").glob("*_float32.tflite")
    assert "input 'x' has shape [1, 12, 6]; expected [1, 6, 12]" in refused(loaded, path)
