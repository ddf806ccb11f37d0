"""Every source reaches both formats, keeps its names and answers alike there, in the formats' own runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack import compress, convert, runtimes
from edgepack.errors import InexpressibleError
from edgepack.model import Format, TensorSpec
from edgepack.quiet import quiet
from edgepack.samples import Samples, over

pytestmark = [pytest.mark.frameworks]

TORCH = {
    "cnn": [TensorSpec("image", (1, 1, 8, 8))],
    "mobilenet": [TensorSpec("image", (1, 3, 32, 32))],
    "lstm": [TensorSpec("x", (1, 12, 6))],
    "transformer": [TensorSpec("x", (1, 12, 16))],
    "linear": [TensorSpec("features", (1, 10))],
    "two_inputs": [TensorSpec("features", (1, 10)), TensorSpec("ids", (1, 5), "int64")],
}
KERAS = ("cnn", "mobilenet", "lstm", "gru", "transformer", "linear", "two_inputs")
FORMATS = ("onnx", "tflite")


def check(converted) -> None:
    """Right to 1e-5 of the range, under the source's names, shapes and dtypes, in its order."""
    assert converted.parity.relative < 1e-5
    opened = runtimes.open_session(converted.path, converted.path.suffix[1:])
    signature = converted.loaded.model.signature
    assert (opened.inputs, opened.outputs) == (signature.inputs, signature.outputs)


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", TORCH)
def test_torch(name, to, load_source, convert_to):
    check(convert_to(load_source(f"torch_nets.py:{name}", *TORCH[name]), to))


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", KERAS)
def test_keras(name, to, load_source, convert_to):
    check(convert_to(load_source(f"keras_nets.py:{name}"), to))


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("kind", ["trace", "script", "export", "export of any batch"])
def test_torch_programs(kind, to, load_source, convert_to, tmp_path):
    import torch

    module = load_source("torch_nets.py:cnn", *TORCH["cnn"]).native.module
    example = torch.randn(2, 1, 8, 8)
    with quiet():  # TorchScript is deprecated, which is no news for those who have one
        save_program(kind, module, example, tmp_path)
    (file,) = tmp_path.glob("m.*")
    declared = TORCH["cnn"] if file.suffix == ".pt" else []
    check(convert_to(load_source(file.name, *declared, folder=tmp_path), to))


def save_program(kind, module, example, folder) -> None:
    import torch

    match kind:
        case "trace":
            torch.jit.save(torch.jit.trace(module, example), folder / "m.pt")
        case "script":
            torch.jit.save(torch.jit.script(module), folder / "m.pt")
        case "export":
            torch.export.save(torch.export.export(module, (example[:1],)), folder / "m.pt2")
        case _:
            batch = {"image": {0: torch.export.Dim("batch")}}
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=batch), folder / "m.pt2")


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("kind", ["m.keras", "m.h5", "saved"])
def test_keras_files(kind, to, load_source, convert_to, tmp_path):
    model = load_source("keras_nets.py:two_inputs").native.model
    with quiet():
        model.export(tmp_path / kind, verbose=False) if kind == "saved" else model.save(tmp_path / kind)
    check(convert_to(load_source(kind, folder=tmp_path), to))


TFLITE = [f"keras_nets.py:{name}" for name in KERAS] + [
    f"torch_nets.py:{name}" for name in TORCH if name != "two_inputs"
]


@pytest.mark.parametrize("name", TFLITE)
def test_tflite_to_onnx(name, load_source, convert_to, tmp_path):
    inputs = TORCH[name.partition(":")[2]] if name.startswith("torch") else []
    made = convert_to(load_source(name, *inputs), "tflite").path.rename(tmp_path / "source.tflite")
    check(convert_to(load_source(made.name, folder=tmp_path), "onnx"))


def test_the_loop_of_a_keras_lstm_takes_small_weights_and_no_integers(load_source, convert_to, tmp_path):
    """Its subgraph runs where neither ranges nor answers can be seen."""
    from contextlib import nullcontext
    from types import SimpleNamespace

    made = convert_to(load_source("keras_nets.py:lstm"), "tflite").path
    silent = SimpleNamespace(step=lambda title: nullcontext())
    draw = np.random.default_rng(0)
    samples, probe = (Samples((draw.standard_normal((32, 12, 6)).astype(np.float32),), None, "") for _ in range(2))
    out = tmp_path / "small.tflite"
    with pytest.raises(InexpressibleError, match=r"(?s)it holds a WHILE, in which no range can be seen.*unroll=True"):
        compress.quantize(made, "tflite", "w8a8", samples, out, silent)
    expected = over(runtimes.open_file(made, "tflite"), probe)[0]
    for precision in ("w8", "w8d", "fp16"):
        done = compress.quantize(made, "tflite", precision, samples, out, silent)
        noise = over(runtimes.open_file(out, "tflite"), probe)[0] - expected
        assert 10 * np.log10((expected**2).sum() / (noise**2).sum()) > 30, precision
        assert any("a WHILE cannot be walked through" in choice for choice in done.choices) == (precision == "w8")


def test_an_operator_that_tf2onnx_does_not_finish_is_named(load_source, convert_to, tmp_path):
    """It leaves TFLite's ARG_MAX with two inputs; the embedding before it is spelled as a GATHER."""
    made = convert_to(load_source("torch_nets.py:two_inputs", *TORCH["two_inputs"]), "tflite").path
    source = made.rename(tmp_path / "source.tflite")
    with pytest.raises(InexpressibleError, match=r"source\.tflite cannot be converted to onnx \(tf2onnx\): .*ArgMax"):
        convert_to(load_source(source.name, folder=tmp_path), "onnx")


def test_quantized_tflite_to_onnx_keeps_real_values(load_source, convert_to, tmp_path):
    """A file that stores int8 shows float32 in both formats, and answers within a step of its own scale."""
    import tensorflow as tf

    model = load_source("keras_nets.py:cnn").native.model
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.standard_normal((1, 8, 8, 1), np.float32)] for _ in range(50))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with quiet():
        (tmp_path / "source.tflite").write_bytes(converter.convert())
    loaded = load_source("source.tflite", folder=tmp_path)
    assert loaded.model.precision == "w8a8"
    assert [spec.dtype for spec in (*loaded.model.signature.inputs, *loaded.model.signature.outputs)] == ["float32"] * 2
    converted = convert_to(loaded, "onnx")
    step = runtimes.open_session(tmp_path / "source.tflite", "tflite").stored_outputs[0].scale
    assert np.abs(converted.actual[0] - converted.expected[0]).max() <= 2 * step
    assert np.ptp(converted.expected[0]) > 50 * step


def onnx_file(path: Path, batch: int | str, rows: int | str) -> Path:
    """y = relu(x) summed over the rows, of any batch and any number of rows."""
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["r"]),
            helper.make_node("ReduceSum", ["r", "axes"], ["y"], keepdims=0),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, rows, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)
    return path


def test_onnx_gets_its_open_sizes_fixed(load_source, convert_to, tmp_path):
    source = onnx_file(tmp_path / "source.onnx", "batch", "rows")
    converted = convert_to(load_source(source.name, TensorSpec("x", (1, 4, 3)), folder=tmp_path), "onnx")
    check(converted)
    assert converted.parity.max_abs == 0.0


def test_onnx_with_external_data_becomes_one_file(load_source, convert_to, tmp_path):
    model = onnx.load(convert_to(load_source("torch_nets.py:cnn", *TORCH["cnn"]), "onnx").path)
    onnx.save(model, tmp_path / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=128)
    converted = convert_to(load_source("big.onnx", folder=tmp_path), "onnx")
    assert converted.parity.max_abs == 0.0
    (tmp_path / "big.data").unlink()
    assert runtimes.open_session(converted.path, "onnx").outputs == converted.loaded.model.signature.outputs


def test_onnx_for_the_oldest_runtime(load_source, convert_to, tmp_path):
    """A newer opset and IR version than onnxruntime 1.19 reads are brought down."""
    model = onnx.load(onnx_file(tmp_path / "new.onnx", 1, 4))
    model.opset_import[0].version, model.ir_version = 23, 11
    onnx.save(model, tmp_path / "new.onnx")
    converted = convert_to(load_source("new.onnx", folder=tmp_path), "onnx")
    assert converted.parity.max_abs == 0.0
    written = onnx.load(converted.path)
    assert written.ir_version <= 10 and written.opset_import[0].version <= 21


def test_tflite_is_copied(load_source, convert_to, tmp_path):
    made = convert_to(load_source("keras_nets.py:linear"), "tflite").path.rename(tmp_path / "source.tflite")
    converted = convert_to(load_source(made.name, folder=tmp_path), "tflite")
    assert converted.path.read_bytes() == made.read_bytes()


@pytest.mark.parametrize("to", FORMATS)
def test_what_a_format_cannot_express(to, load_source, convert_to, tmp_path):
    loaded = load_source("torch_nets.py:inexpressible", TensorSpec("x", (1, 4, 4)))
    with pytest.raises(InexpressibleError, match=r"(?s)torch_nets.py:inexpressible.*svd.*try: ") as caught:
        convert_to(loaded, to)
    assert "Traceback" not in str(caught.value)
    assert not list(tmp_path.iterdir()), "something half-written was left"


def test_the_table_of_routes():
    assert all(convert.route(source, to) for source in Format for to in FORMATS)
