"""Whole ONNX nets through LiteRT: the same answers, the operators one would have written by hand, and clear refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgepack.convert.onnx_to_tflite import convert
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import Signature, TensorSpec

pytestmark = pytest.mark.frameworks
Array = NDArray[Any]


@dataclass
class Net:
    """An ONNX graph written down operator by operator, with random weights."""

    opset: int = 17
    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))

    def w(self, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) or 1
        return self.k((self.random.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def k(self, value: Any, dtype: Any = None) -> str:
        name = f"c{len(self.weights)}"
        self.weights[name] = np.asarray(value, dtype)
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, name=f"/{op}_{len(self.nodes)}", **attributes))
        return names[0] if outputs == 1 else names

    def norm(self, x: str, channels: int) -> str:
        scale, shift, mean = (self.k(self.random.uniform(0.5, 1, channels).astype(np.float32)) for _ in range(3))
        return str(self.add("BatchNormalization", x, scale, shift, mean, scale))

    def conv(self, x: str, into: int, out: int, size: int = 3, **attributes: Any) -> str:
        kernel = self.w(out, into // attributes.get("group", 1), size, size)
        return self.norm(self.add("Conv", x, kernel, **attributes), out)

    def save(self, path: Path, inputs: dict[str, Array], *outputs: str) -> Signature:
        # Open batch, as exporters write it: the signature fixes it.
        graph = helper.make_graph(
            self.nodes,
            "net",
            [
                helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), ["n", *a.shape[1:]])
                for n, a in inputs.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.save(model, path)
        expected = answers(path, inputs)
        return Signature(
            tuple(TensorSpec(name, array.shape, str(array.dtype)) for name, array in inputs.items()),
            tuple(TensorSpec(n, a.shape, str(a.dtype)) for n, a in zip(outputs, expected, strict=True)),
        )


def answers(path: Path, inputs: dict[str, Array]) -> list[Array]:
    import onnxruntime

    return list(onnxruntime.InferenceSession(str(path)).run(None, inputs))


def float_image(*shape: int) -> dict[str, Array]:
    return {"image": np.random.default_rng(5).standard_normal((1, *shape)).astype(np.float32)}


def resnet(path: Path) -> tuple[Signature, dict[str, Array]]:
    net, inputs = Net(), float_image(3, 16, 16)
    x = net.add("Relu", net.conv("image", 3, 8, pads=[1, 1, 1, 1]))
    for into, out, stride in ((8, 8, 1), (8, 16, 2)):
        y = net.add("Relu", net.conv(x, into, out, pads=[1, 1, 1, 1], strides=[stride, stride]))
        y = net.conv(y, out, out, pads=[1, 1, 1, 1])
        x = net.add("Relu", net.add("Add", y, x if stride == 1 else net.conv(x, into, out, 1, strides=[2, 2])))
    x = net.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.save(path, inputs, net.add("Gemm", x, net.w(10, 16), net.w(10), transB=1)), inputs


def mobilenet(path: Path) -> tuple[Signature, dict[str, Array]]:
    net, inputs = Net(opset=13), float_image(3, 16, 16)
    zero, six = net.k(0, np.float32), net.k(6, np.float32)
    x = net.add("Clip", net.conv("image", 3, 8, auto_pad="SAME_UPPER", strides=[2, 2]), zero, six)
    for stride in (1, 2):
        y = net.add("Clip", net.conv(x, 8, 24, 1), zero, six)
        y = net.add("Clip", net.conv(y, 24, 24, auto_pad="SAME_UPPER", group=24, strides=[stride, stride]), zero, six)
        y = net.conv(y, 24, 8, 1)
        x = net.add("Add", y, x) if stride == 1 else y
    x = net.add("HardSwish", net.conv(x, 8, 16, 1)) if net.opset >= 14 else net.add("Relu", net.conv(x, 8, 16, 1))
    x = net.add("ReduceMean", x, axes=[2, 3], keepdims=0)
    return net.save(path, inputs, net.add("Softmax", net.add("Gemm", x, net.w(16, 5), net.w(5)), axis=1)), inputs


def speech(path: Path) -> tuple[Signature, dict[str, Array]]:
    """A spectrum, a convolution over time, an LSTM with a state that comes in and goes out, a GRU."""
    net = Net()
    random = np.random.default_rng(5)
    inputs = {
        "signal": random.standard_normal((1, 128)).astype(np.float32),
        "state": random.standard_normal((1, 1, 6)).astype(np.float32),
    }
    parts = net.add("STFT", "signal", net.k(16), net.k(np.hanning(32).astype(np.float32)))
    power = net.add("ReduceSumSquare", parts, axes=[3], keepdims=0)
    x = net.add("Transpose", net.add("Log", net.add("Add", power, net.k(1, np.float32))), perm=[0, 2, 1])
    x = net.add("Relu", net.add("Conv", x, net.w(8, 17, 3), net.w(8), pads=[1, 1]))
    x = net.add("Transpose", x, perm=[2, 0, 1])
    weights = (net.w(1, 24, 8), net.w(1, 24, 6), net.w(1, 48))
    x, state, _ = net.add("LSTM", x, *weights, "", "state", "state", outputs=3, hidden_size=6)
    x = net.add("Squeeze", x, net.k([1]))
    _, last = net.add("GRU", x, net.w(1, 15, 6), net.w(1, 15, 5), net.w(1, 30), outputs=2, hidden_size=5)
    last = net.add("Squeeze", last, net.k([0]))
    return net.save(path, inputs, net.add("Sigmoid", last), state), inputs


def transformer(path: Path) -> tuple[Signature, dict[str, Array]]:
    """Token numbers to logits, as exporters write it: shapes computed, heads split by them, GELU spelled out."""
    net, width, heads = Net(), 8, 2
    inputs = {"tokens": np.array([[1, 5, 2, 0, 9, 9]], np.int64)}
    x = net.add("Gather", net.w(12, width), "tokens")
    rows = net.add("Gather", net.add("Shape", x), net.k(1))
    split = net.add(
        "Concat", net.k([0]), net.add("Unsqueeze", rows, net.k([0])), net.k([heads, width // heads]), axis=0
    )

    def head(order: list[int]) -> Any:
        y = net.add("Add", net.add("MatMul", x, net.w(width, width)), net.w(width))
        return net.add("Transpose", net.add("Reshape", y, split), perm=order)

    scores = net.add("MatMul", head([0, 2, 1, 3]), head([0, 2, 3, 1]))
    mixed = net.add("MatMul", net.add("Softmax", net.add("Mul", scores, net.k(0.5, np.float32))), head([0, 2, 1, 3]))
    mixed = net.add("Reshape", net.add("Transpose", mixed, perm=[0, 2, 1, 3]), net.k([0, 0, width]))
    ones, zeros = net.k(np.ones(width, np.float32)), net.k(np.zeros(width, np.float32))
    x = net.add("LayerNormalization", net.add("Add", x, mixed), ones, zeros)
    y = net.add("Gemm", net.add("Reshape", x, net.k([-1, width])), net.w(width, 16), net.w(16))
    half, one, root = (net.k(v, np.float32) for v in (0.5, 1, np.sqrt(2)))
    y = net.add("Mul", net.add("Mul", y, half), net.add("Add", net.add("Erf", net.add("Div", y, root)), one))
    best = net.add("ArgMax", y, axis=1, keepdims=0)
    return net.save(path, inputs, y, best), inputs


NETS: dict[str, Callable[[Path], tuple[Signature, dict[str, Array]]]] = {
    "resnet": resnet,
    "mobilenet": mobilenet,
    "speech": speech,
    "transformer": transformer,
}


@dataclass(frozen=True)
class Result:
    signature: Signature
    expected: list[Array]
    found: list[Array]
    operators: Counter[str]
    layout: list[tuple[str, list[int], str]]


@pytest.fixture(scope="module", params=NETS)
def result(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Result]:
    from ai_edge_litert.interpreter import Interpreter

    folder = tmp_path_factory.mktemp(request.param)
    source, out = folder / "net.onnx", folder / "net.tflite"
    signature, inputs = NETS[request.param](source)
    convert(source, signature, out, tuple(inputs.values()))
    interpreter = Interpreter(model_path=str(out))
    interpreter.allocate_tensors()
    described = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    layout = [(d["name"], d["shape"].tolist(), np.dtype(d["dtype"]).name) for d in described]
    operators = Counter(o["op_name"] for o in interpreter._get_ops_details() if o["op_name"] != "DELEGATE")
    answered = interpreter.get_signature_runner()(**inputs)
    found = [answered[spec.name] for spec in signature.outputs]
    return request.param, Result(signature, answers(source, inputs), found, operators, layout)


def test_the_answers_are_those_of_onnxruntime(result: tuple[str, Result]) -> None:
    for found, expected in zip(result[1].found, result[1].expected, strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_inputs_and_outputs_are_the_signatures(result: tuple[str, Result]) -> None:
    signature = result[1].signature
    specs = (*signature.inputs, *signature.outputs)
    assert result[1].layout == [(spec.name, list(spec.shape), spec.dtype) for spec in specs]


EXPECTED: dict[str, Counter[str]] = {
    "resnet": Counter(TRANSPOSE=1, CONV_2D=6, ADD=2, PADV2=1, MAX_POOL_2D=1, MEAN=1, FULLY_CONNECTED=1),
    "mobilenet": Counter(TRANSPOSE=1, CONV_2D=6, DEPTHWISE_CONV_2D=2, ADD=1, MEAN=1, FULLY_CONNECTED=1, SOFTMAX=1),
}


def test_pictures_are_laid_out_once_and_norms_are_gone(result: tuple[str, Result]) -> None:
    name, found = result
    if name in EXPECTED:
        operators = Counter({op: n for op, n in found.operators.items() if op not in ("PAD", "RESHAPE")})
        assert operators == EXPECTED[name]
    else:
        assert not any(operator.startswith("STABLEHLO") for operator in found.operators)


def single(path: Path, op: str, inputs: dict[str, Array], outputs: int = 1, **attributes: Any) -> Signature:
    net = Net()
    names = net.add(op, *inputs, outputs=outputs, **attributes)
    return net.save(path, inputs, *([names] if outputs == 1 else names))


def test_what_tflite_cannot_say_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    net, inputs = Net(opset=18), {"a": np.array([[3, 5]], np.int32), "b": np.array([[6, 4]], np.int32)}
    x = net.add("Add", net.add("Mul", "a", "b"), "a")
    signature = net.save(tmp_path / "bits.onnx", inputs, net.add("Sub", net.add("BitwiseAnd", x, "b"), "a"))
    with pytest.raises(InexpressibleError) as refusal:
        convert(tmp_path / "bits.onnx", signature, tmp_path / "bits.tflite", tuple(inputs.values()))
    assert "bits.onnx: TFLite cannot express BitwiseAnd (node '/BitwiseAnd_2', opset 18)" in refusal.value.what
    assert "ONNX instead of TFLite" in refusal.value.advice
    assert [file.name for file in tmp_path.iterdir()] == ["bits.onnx"]


def test_what_converts_and_does_not_load_is_refused(tmp_path: Path) -> None:
    inputs = {"x": np.zeros((1, 4), np.float32)}
    net = Net(opset=18)
    y = net.add("ScatterElements", "x", net.k([[0, 0]]), net.k([[1, 2]], np.float32), axis=1, reduction="add")
    signature = net.save(tmp_path / "net.onnx", inputs, y)
    with pytest.raises(InexpressibleError, match=r"ScatterElements \(node '/ScatterElements_0', opset 18\)"):
        convert(tmp_path / "net.onnx", signature, tmp_path / "net.tflite", tuple(inputs.values()))
    assert not (tmp_path / "net.tflite").exists()


def test_what_returns_as_much_as_it_finds_is_refused_with_advice(tmp_path: Path) -> None:
    inputs = {"x": np.array([[0, 1, 2]], np.float32)}
    signature = single(tmp_path / "net.onnx", "NonZero", inputs)
    with pytest.raises(InexpressibleError, match=r"NonZero \(node '/NonZero_0', opset 17\)") as refusal:
        convert(tmp_path / "net.onnx", signature, tmp_path / "net.tflite", tuple(inputs.values()))
    assert "end the model before it" in refusal.value.advice


def test_an_open_size_is_named(tmp_path: Path) -> None:
    inputs = {"x": np.zeros((1, 3), np.float32)}
    signature = single(tmp_path / "net.onnx", "Relu", inputs)
    opened = Signature((TensorSpec("x", (None, None)),), signature.outputs)
    with pytest.raises(InputError, match="input 'x' leaves its dimension 1 open"):
        convert(tmp_path / "net.onnx", opened, tmp_path / "net.tflite", tuple(inputs.values()))


def test_wide_integers_arrive_and_leave_as_they_are(tmp_path: Path) -> None:
    inputs = {"x": np.array([[2, 7]], np.int64)}
    signature = single(tmp_path / "net.onnx", "Neg", inputs)
    convert(tmp_path / "net.onnx", signature, tmp_path / "net.tflite", tuple(inputs.values()))
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(tmp_path / "net.tflite")).get_signature_runner()
    found = runner(**inputs)[signature.outputs[0].name]
    assert found.dtype == np.int64
    assert found.tolist() == [[-2, -7]]


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    signature, inputs = mobilenet(tmp_path / "net.onnx")
    for name in ("one", "two"):
        convert(tmp_path / "net.onnx", signature, tmp_path / name, tuple(inputs.values()))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
