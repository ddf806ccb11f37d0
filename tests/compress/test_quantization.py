"""Every precision in both formats, run in its own runtime and compared with the float file's answers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgepack import compress, runtimes
from edgepack.compress import Operator
from edgepack.digest import Digest
from edgepack.errors import InexpressibleError, InputError
from edgepack.names import FileFormat, Precision
from edgepack.quiet import quiet
from edgepack.samples import Samples, over

pytestmark = pytest.mark.frameworks

RECURRENT = ("LSTM", "GRU")
FORMATS: tuple[FileFormat, ...] = ("tflite", "onnx")
SERVED: tuple[tuple[FileFormat, Precision, float, float], ...] = (
    # format, precision, least SQNR in dB, greatest share of the float file's size
    ("tflite", "w8a8", 28, 0.42),
    ("tflite", "w8a16", 32, 0.42),
    ("tflite", "w8d", 32, 0.42),
    ("tflite", "w8", 32, 0.42),
    ("tflite", "w4", 8, 0.35),
    ("tflite", "fp16", 55, 0.60),
    ("onnx", "w8a8", 28, 0.42),
    ("onnx", "w8a16", 32, 0.42),
    ("onnx", "w8d", 28, 0.42),
    ("onnx", "w8", 32, 0.42),
    ("onnx", "w4", 12, 0.35),
    ("onnx", "fp16", 55, 0.60),
)


def sqnr(expected: Any, actual: Any) -> float:
    return float(10 * np.log10((expected**2).sum() / ((expected - actual) ** 2).sum()))


def some(*arrays: Any) -> Samples:
    return Samples(arrays, None, Digest("sha256:some"))


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def answers(path: Path, format: FileFormat, samples: Samples) -> Any:
    return over(runtimes.open_file(path, format), samples)[0]


def onnx_model(nodes: list[Any], weights: dict[str, Any], shape: list[int], outputs: list[int], opset: int = 17) -> Any:
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, outputs)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize(("format", "precision", "least_db", "greatest_share"), SERVED)
def test_a_precision_keeps_the_answers_and_shrinks_the_file(
    format: FileFormat, precision: Precision, least_db: float, greatest_share: float,
    float_files: Any, digits: Any, heard: Any, tmp_path: Path,
) -> None:  # fmt: skip
    source, out = float_files[format], tmp_path / f"model.{format}"
    before = source.read_bytes()
    done = compress.quantize(source, format, precision, digits.calibration, out, heard)
    expected, actual = answers(source, format, digits.evaluation), answers(out, format, digits.evaluation)
    assert sqnr(expected, actual) > least_db
    if precision != "w4":
        assert ((actual.argmax(1) == digits.test_y).mean()) > (expected.argmax(1) == digits.test_y).mean() - 0.01
    assert out.stat().st_size < greatest_share * source.stat().st_size
    assert {operator.kind for operator in done.quantized} >= ({"Conv"} if format == "onnx" else {"CONV_2D"})
    assert source.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


@pytest.mark.parametrize("format", FORMATS)
def test_inputs_and_outputs_keep_their_names(
    format: FileFormat, float_files: Any, digits: Any, heard: Any, tmp_path: Path
) -> None:
    out = tmp_path / f"model.{format}"
    compress.quantize(float_files[format], format, "w8a8", digits.calibration, out, heard)
    float_file, quantized = runtimes.open_session(float_files[format], format), runtimes.open_session(out, format)
    assert (quantized.inputs, quantized.outputs) == (float_file.inputs, float_file.outputs)


def test_tflite_ranges_beat_the_librarys_moving_average(
    float_files: Any, digits: Any, heard: Any, tmp_path: Path
) -> None:
    """The library forgets what it saw 50 samples ago: calibrated on bright samples first, it clips them."""
    from ai_edge_quantizer import quantizer, recipe

    order = np.argsort(-digits.train_x[:100].sum((1, 2, 3)))
    samples = some(digits.train_x[:100][order])
    source = float_files["tflite"]
    with quiet():
        tool = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        ranges = tool.calibrate({"serving_default": [{"args_0": batch[0]} for batch in samples.batches(1)]})
        (tmp_path / "theirs.tflite").write_bytes(tool.quantize(ranges).quantized_model)
    compress.quantize(source, "tflite", "w8a8", samples, tmp_path / "ours.tflite", heard)
    expected = answers(source, "tflite", digits.evaluation)
    ours, theirs = (
        sqnr(expected, answers(tmp_path / f"{who}.tflite", "tflite", digits.evaluation)) for who in ("ours", "theirs")
    )
    assert ours > theirs + 3


def test_onnx_ranges_are_global(float_files: Any, digits: Any, heard: Any, tmp_path: Path) -> None:
    """One bright sample among a hundred decides the input's range, wherever it stands."""
    for place in (0, 50, 99):
        samples = digits.train_x[:100].copy()
        samples[place] *= 3
        compress.quantize(float_files["onnx"], "onnx", "w8a8", some(samples), tmp_path / f"{place}.onnx", heard)
    assert {input_step(tmp_path / f"{place}.onnx") for place in (0, 50, 99)} == {np.float32(np.float32(3) / 255)}


def input_step(path: Path) -> float:
    """The scale with which the graph's input is quantized."""
    graph = onnx.load(path).graph
    scale = next(node.input[1] for node in graph.node if node.input[0] == graph.input[0].name)
    return float(numpy_helper.to_array(next(tensor for tensor in graph.initializer if tensor.name == scale)))


@pytest.mark.parametrize("format", FORMATS)
def test_the_last_softmax_of_many_classes_stays_in_float(
    format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    """In int8 its step is 1/256 and every one of 1000 classes is nothing."""
    torch.manual_seed(0)
    source = write(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1000), nn.Softmax(1)), (1, 16), format)
    out = tmp_path / f"model.{format}"
    done = compress.quantize(source, format, "w8a8", some(normal(32, 16)), out, heard)
    assert [operator.kind.upper() for operator in done.left] == ["SOFTMAX"]
    expected, actual = (
        answers(source, format, some(normal(20, 16, seed=1))),
        answers(out, format, some(normal(20, 16, seed=1))),
    )
    assert expected.max() < 1 / 256
    assert np.abs(actual.sum(1) - 1).max() < 1e-3
    assert sqnr(expected, actual) > 20


@pytest.mark.parametrize("format", FORMATS)
def test_dead_channels_keep_their_bias(
    format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1), nn.Flatten(1))
    with torch.no_grad():
        net[0].weight /= 20
        net[0].weight[:6] = 0
        net[0].bias[:6] = torch.tensor([0.013, 0.3, 0.7, -0.2, 0.05, 0.9])
    source, out = write(net, (1, 2, 6, 6), format), tmp_path / f"model.{format}"
    compress.quantize(source, format, "w8a8", some(20 * normal(32, 2, 6, 6)), out, heard)
    probe = some(20 * normal(32, 2, 6, 6, seed=1))
    assert sqnr(answers(source, format, probe), answers(out, format, probe)) > 33


@pytest.mark.parametrize("format", FORMATS)
def test_the_simplest_model_goes_through(
    format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source, out = write(nn.Linear(10, 1), (1, 10), format), tmp_path / f"model.{format}"
    compress.quantize(source, format, "w8a8", some(normal(64, 10)), out, heard)
    probe = some(normal(64, 10, seed=1))
    assert sqnr(answers(source, format, probe), answers(out, format, probe)) > 25


class Shares(nn.Module):
    """Tokens in; inside, shares of a sum that is next to nothing for some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.line, self.head = nn.Embedding(16, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        with torch.no_grad():
            self.tokens.weight[:4] *= 1e-4
            self.line.bias.zero_()

    def forward(self, tokens: Any) -> Any:
        heights = self.line(self.tokens(tokens).mean(1)).relu()
        return self.head(heights / (heights.sum(1, keepdim=True) + 1e-6))


@pytest.mark.parametrize("format", FORMATS)
def test_tokens_and_divisions_by_next_to_nothing_go_through(
    format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    """LiteRT's integer kernel ends the run where a divisor rounds to zero."""
    torch.manual_seed(0)
    source, out = write(Shares(), (1, 6), format, torch.int32), tmp_path / f"model.{format}"
    tokens = np.random.default_rng(0).integers(4, 16, (48, 6)).astype(np.int32)
    tokens[::4] %= 4
    compress.quantize(source, format, "w8a8", some(tokens), out, heard)
    usual = some(tokens[1::4])
    assert sqnr(answers(source, format, usual), answers(out, format, usual)) > 20
    assert np.isfinite(answers(out, format, some(tokens))).all()


@pytest.mark.parametrize("shape", [(1, 4), (1, 1), (1,), ()])
def test_a_bias_of_any_shape_that_a_gemm_takes(shape: tuple[int, ...], heard: Any, tmp_path: Path) -> None:
    """onnxruntime's quantizer takes one value an output, and no other."""
    source, out = tmp_path / "float.onnx", tmp_path / "model.onnx"
    weights = {"w": normal(6, 4), "b": normal(*shape, seed=1) if shape else np.float32(0.5).reshape(())}
    onnx.save(onnx_model([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], weights, [1, 6], [1, 4]), str(source))
    samples = some(normal(64, 6))
    compress.quantize(source, "onnx", "w8a8", samples, out, heard)
    assert sqnr(answers(source, "onnx", samples), answers(out, "onnx", samples)) > 30


class FarFromZero(nn.Module):
    """Small changes upon a large constant. again: which another layer then computes on"""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.line, self.head = nn.Linear(8, 4), nn.Linear(4, 4) if again else nn.Identity()

    def forward(self, x: Any) -> Any:
        return self.head((self.line(x).sigmoid() * 0.01 + 1000.0).relu() - 1000.0)


@pytest.mark.parametrize("format", FORMATS)
def test_a_lost_output_is_an_error(format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, out = write(FarFromZero(True), (1, 8), format), tmp_path / f"model.{format}"
    with pytest.raises(InexpressibleError, match=r"w8a8 loses output 0: (every value is|its error is larger)"):
        compress.quantize(source, format, "w8a8", some(normal(32, 8)), out, heard)
    assert not out.exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_an_output_that_integers_would_lose_stays_in_float(
    format: FileFormat, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    source, out = write(FarFromZero(False), (1, 8), format), tmp_path / f"model.{format}"
    done = compress.quantize(source, format, "w8a8", some(normal(32, 8)), out, heard)
    assert any("output 0 is lost in integers" in choice for choice in done.choices)
    expected, actual = (answers(path, format, some(normal(32, 8, seed=1))) for path in (source, out))
    middle = expected.mean()
    assert sqnr(expected - middle, actual - middle) > 25


@pytest.mark.parametrize("format", FORMATS)
def test_same_inputs_same_bytes_in_another_process(
    format: FileFormat, float_files: Any, digits: Any, heard: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "samples.npy", digits.train_x[:20])
    script = f"""
import numpy as np, sys
from contextlib import nullcontext
from pathlib import Path
from edgepack import compress
from edgepack.samples import Samples
class P:
    def step(self, title): return nullcontext()
samples = Samples((np.load({str(tmp_path / "samples.npy")!r}),), None, "sha256:x")
for precision in ("w8a8", "w8d", "fp16"):
    out = Path({str(tmp_path)!r}) / (precision + ".{format}")
    compress.quantize(Path({str(float_files[format])!r}), {format!r}, precision, samples, out, P())
"""
    env = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(compress.__file__).parents[2])}
    other = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (other.returncode, other.stdout) == (0, ""), other.stderr
    for precision in ("w8a8", "w8d", "fp16"):
        here = tmp_path / f"here.{precision}.{format}"
        compress.quantize(float_files[format], format, precision, some(digits.train_x[:20]), here, heard)  # type: ignore[arg-type]
        there = tmp_path / f"{precision}.{format}"
        assert hashlib.sha256(here.read_bytes()).digest() == hashlib.sha256(there.read_bytes()).digest(), precision


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (None, "w8a8 needs calibration samples, there are none"),
        (some(np.zeros((0, 1, 8, 8), np.float32)), "w8a8 needs calibration samples, there are none"),
        (some(np.zeros((4, 8, 8), np.float32)), r"the calibration samples of input .* are float32\[4, 8, 8\]"),
        (some(np.zeros((4, 1, 9, 8), np.float32)), r"are float32\[4, 1, 9, 8\]"),
        (some(np.zeros((4, 1, 8, 8), np.float64)), r"are float64\[4, 1, 8, 8\]"),
        (some(np.full((4, 1, 8, 8), np.nan, np.float32)), "hold NaN or infinity"),
        (some(normal(4, 1, 8, 8), normal(4, 1)), "2 calibration arrays"),
    ],
)
@pytest.mark.parametrize("format", FORMATS)
def test_unfitting_calibration_samples_are_refused(
    format: FileFormat, samples: Samples | None, message: str, float_files: Any, heard: Any, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as error:
        compress.quantize(float_files[format], format, "w8a8", samples, tmp_path / "m", heard)
    assert not list(tmp_path.iterdir())
    if "there are none" in message:
        assert "--calibration" in str(error.value)


@pytest.mark.parametrize("precision", ["w8a8", "w8d", "w8", "fp16"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_quantized_file_is_not_quantized_again(
    format: FileFormat, precision: Precision, float_files: Any, digits: Any, heard: Any, tmp_path: Path
) -> None:
    once = tmp_path / f"once.{format}"
    compress.quantize(float_files[format], format, precision, digits.calibration, once, heard)
    with pytest.raises(InexpressibleError, match="is quantized already: it"):
        compress.quantize(once, format, "w8d", None, tmp_path / "twice", heard)
    assert not (tmp_path / "twice").exists()


@pytest.mark.parametrize(
    ("format", "precision"),
    [("onnx", "fp32"), ("tflite", "fp32")],
)
def test_what_is_not_served_is_said(
    format: FileFormat, precision: Precision, float_files: Any, heard: Any, tmp_path: Path
) -> None:
    with pytest.raises(InexpressibleError, match=f"{precision} is not served for {format}") as error:
        compress.quantize(float_files[format], format, precision, None, tmp_path / "m", heard)
    assert "w8a8" in error.value.expected


@pytest.mark.parametrize("precision", ["w8d", "w8", "fp16"])
def test_nothing_to_quantize_is_an_error(precision: Precision, heard: Any, tmp_path: Path) -> None:
    onnx.save(onnx_model([helper.make_node("Relu", ["x"], ["y"])], {}, [1, 4], [1, 4]), tmp_path / "relu.onnx")
    with pytest.raises(InexpressibleError, match=f"nothing could be quantized to {precision}"):
        compress.quantize(tmp_path / "relu.onnx", "onnx", precision, None, tmp_path / "m", heard)
    assert not (tmp_path / "m").exists()


def test_weights_beyond_float16_are_named(heard: Any, tmp_path: Path) -> None:
    weights = {"w": np.full((8, 8), 1e6, np.float32)}
    onnx.save(onnx_model([helper.make_node("MatMul", ["x", "w"], ["y"])], weights, [1, 8], [1, 8]), tmp_path / "m.onnx")
    with pytest.raises(InexpressibleError, match=r"the weights w reach 1e\+06"):
        compress.quantize(tmp_path / "m.onnx", "onnx", "fp16", None, tmp_path / "m", heard)


def test_a_broken_file_is_named(heard: Any, tmp_path: Path) -> None:
    for format in FORMATS:
        (tmp_path / f"broken.{format}").write_bytes(b"not a model")
        with pytest.raises(InputError, match=f"broken.{format}"):
            compress.quantize(tmp_path / f"broken.{format}", format, "w8d", None, tmp_path / "m", heard)


@pytest.mark.parametrize("precision", ["w8a8", "w8a16", "w8d", "w8", "w4", "fp16"])
def test_onnx_stays_below_what_boards_open(precision: Precision, heard: Any, tmp_path: Path) -> None:
    """From an opset before per-channel scales, with an unnamed node and a stack trace of the exporting machine."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    nodes[0].doc_string = "/home/somebody/train.py"
    model = onnx_model(nodes, {"w": normal(16, 8)}, [1, 16], [1, 8], opset=11)
    onnx.save(model, tmp_path / "old.onnx")
    out = tmp_path / "new.onnx"
    compress.quantize(tmp_path / "old.onnx", "onnx", precision, some(normal(16, 16)), out, heard)
    written = onnx.load(out)
    assert written.ir_version <= 10
    assert 13 <= max(entry.version for entry in written.opset_import if not entry.domain) <= 21
    assert b"somebody" not in out.read_bytes()
    probe = some(normal(8, 16, seed=1))
    least = 15 if precision == "w4" else 30
    assert sqnr(answers(tmp_path / "old.onnx", "onnx", probe), answers(out, "onnx", probe)) > least


def test_unsigned_activations_answer_alike(float_files: Any, digits: Any, heard: Any, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    compress.quantize(float_files["onnx"], "onnx", "w8a8", digits.calibration, out, heard, activations="uint8")
    graph = onnx.load(out).graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    assert {kinds[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"} == {TensorProto.UINT8}
    expected = answers(float_files["onnx"], "onnx", digits.evaluation)
    assert sqnr(expected, answers(out, "onnx", digits.evaluation)) > 28


def test_a_file_without_a_signature_stays_without_one(
    float_files: Any, digits: Any, heard: Any, tmp_path: Path
) -> None:
    from edgepack.compress import tflite_graph

    graph = tflite_graph.read(float_files["tflite"].read_bytes(), "m")
    graph.model.signatureDefs = []
    bare, out = tmp_path / "bare.tflite", tmp_path / "out.tflite"
    bare.write_bytes(tflite_graph.pack(graph))
    compress.quantize(bare, "tflite", "w8a8", digits.calibration, out, heard)
    assert runtimes.open_session(out, "tflite").inputs == runtimes.open_session(bare, "tflite").inputs
    assert sqnr(answers(bare, "tflite", digits.evaluation), answers(out, "tflite", digits.evaluation)) > 28


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase], both: bool) -> None:
        super().__init__()
        self.recur = kind(4, 16, batch_first=True, bidirectional=both)
        self.head = nn.Linear(32 if both else 16, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.recur(x)[0].mean(1))


@pytest.mark.parametrize(("kind", "both"), [(nn.LSTM, False), (nn.LSTM, True), (nn.GRU, True)])
def test_weights_of_a_recurrent_net_are_stored_in_8_bits(
    kind: type[nn.RNNBase], both: bool, write: Callable[..., Path], heard: Any, tmp_path: Path
) -> None:
    """onnxruntime computes with them in float, and its dynamic quantizer knows LSTM alone."""
    torch.manual_seed(0)
    net = Recurrent(kind, both)
    with torch.no_grad():
        for parameter in net.recur.parameters():  # directions of unlike size: one step for both would lose the second
            parameter *= 0.02 if parameter is getattr(net.recur, "weight_ih_l0_reverse", None) else 1
    source, samples = write(net, (1, 6, 4), "onnx"), some(normal(32, 6, 4))
    probe = some(normal(32, 6, 4, seed=1))
    left = {Operator(node.op_type, node.name) for node in onnx.load(source).graph.node if node.op_type in RECURRENT}
    for precision in ("w8", "w8a8", "w8a16", "w8d"):
        out = tmp_path / f"{precision}.onnx"
        done = compress.quantize(source, "onnx", precision, samples, out, heard)  # type: ignore[arg-type]
        assert not any(
            tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 100 * (2 if both else 1)
            for tensor in onnx.load(out).graph.initializer
            if len(tensor.dims) == 3 and tensor.dims[2] > 1
        ), precision
        assert sqnr(answers(source, "onnx", probe), answers(out, "onnx", probe)) > 25, precision
        if precision in ("w8a8", "w8a16"):
            assert left <= set(done.left)
            assert "weights of 1 operators in float are stored as int8" in done.choices
        else:
            assert left <= set(done.quantized)


def test_nothing_is_said_on_standard_output_or_left_behind(
    float_files: Any,
    digits: Any,
    heard: Any,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    for format in FORMATS:
        compress.quantize(float_files[format], format, "w8a8", digits.calibration, tmp_path / f"m.{format}", heard)
    assert capfd.readouterr() == ("", "")
    assert not list(scratch.iterdir())
