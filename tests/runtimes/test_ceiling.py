"""What tflite-runtime 2.14 cannot read, or reads wrongly, is known without running it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgepack.profile import RuntimeRange
from edgepack.runtimes import ceiling

pytestmark = pytest.mark.frameworks

OLD = RuntimeRange(">=2.14,<2.15")
FLOAT32, INT8 = 0, 9


def write(path: Path, operator: str, version: int, kinds: tuple[int, int], scales: int) -> Path:
    """A file with one operator over an input and weights that have that many scales."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, operator)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version
    tensors = []
    for kind, count in zip(kinds, (1, scales), strict=True):
        tensor = schema.TensorT()
        tensor.type, tensor.shape, tensor.buffer = kind, [4, 4], 0
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5] * count, [0] * count
        tensors.append(tensor)
    step = schema.OperatorT()
    step.opcodeIndex, step.inputs, step.outputs = 0, [0, 1], [0]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [step], [0], [0]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


@pytest.mark.parametrize(
    ("operator", "version", "kinds", "scales", "said"),
    [
        ("ADD", 5, (FLOAT32, FLOAT32), 1, ""),
        ("ADD", 6, (FLOAT32, FLOAT32), 1, "it needs ADD in version 6, tflite-runtime 2.14 has version 5 at most"),
        ("STABLEHLO_ADD", 1, (FLOAT32, FLOAT32), 1, "tflite-runtime 2.14 has none"),
        ("FULLY_CONNECTED", 5, (FLOAT32, INT8), 4, "answers wrongly"),
        ("FULLY_CONNECTED", 5, (FLOAT32, INT8), 1, ""),
        ("FULLY_CONNECTED", 5, (INT8, INT8), 4, ""),
        ("CONV_2D", 5, (FLOAT32, INT8), 4, ""),
    ],
)
def test_what_it_cannot_run_is_refused(
    tmp_path: Path, operator: str, version: int, kinds: tuple[int, int], scales: int, said: str
) -> None:
    path = write(tmp_path / "m.tflite", operator, version, kinds, scales)
    reason = ceiling.refusal(path, "tflite-runtime", OLD)
    assert said in reason and bool(said) == bool(reason)
    assert ceiling.refusal(path, "litert", RuntimeRange(">=2.1,<3")) == ""


def test_the_oldest_of_a_range_decides(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", "ADD", 6, (FLOAT32, FLOAT32), 1)
    assert ceiling.refusal(path, "tflite-runtime", RuntimeRange(">=2.14,<3"))
    assert not ceiling.refusal(path, "tflite-runtime", RuntimeRange(">=2.15,<3"))


def onnx_file(path: Path, opset: int, ir: int, domain: str = "", operator: str = "Relu") -> Path:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 4]) for name in "xy"]
    sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph([node], "main", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=ir), str(path))
    return path


@pytest.mark.parametrize(
    ("opset", "ir", "wanted", "said"),
    [
        (18, 8, ">=1.14,<2", ""),
        (19, 8, ">=1.14,<2", "it needs opset 19, onnxruntime 1.14 has 18 at most"),
        (21, 10, ">=1.19,<2", ""),
        (22, 10, ">=1.19,<2", "it needs opset 22, onnxruntime 1.19 has 21 at most"),
        (22, 10, ">=1.21,<2", ""),
        (18, 10, ">=1.16.2,<2", "IR version 10, onnxruntime 1.16 reads 9 at most"),
        (18, 10, "==1.19.2", ""),
        (23, 11, ">=1.31", ""),
    ],
)
def test_the_oldest_onnxruntime_of_a_range_decides(tmp_path: Path, opset: int, ir: int, wanted: str, said: str) -> None:
    reason = ceiling.refusal(onnx_file(tmp_path / "m.onnx", opset, ir), "onnxruntime", RuntimeRange(wanted))
    assert said in reason and bool(said) == bool(reason)


def test_operators_of_onnxruntimes_own_have_a_first_version(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "m.onnx", 17, 8, "com.microsoft", "MatMulNBits")
    assert "which onnxruntime has from 1.17 on" in ceiling.refusal(path, "onnxruntime", RuntimeRange(">=1.16,<2"))
    assert ceiling.refusal(path, "onnxruntime", RuntimeRange(">=1.17,<2")) == ""


def test_weights_of_4_bits_are_not_for_tflite_runtime(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", "CONV_2D", 5, (FLOAT32, 17), 4)
    assert "4 bits" in ceiling.refusal(path, "tflite-runtime", OLD)
    assert ceiling.refusal(path, "litert", RuntimeRange(">=2.1,<3")) == ""


def test_every_known_operator_is_one_of_the_schema() -> None:
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    for table in ceiling.tables():
        assert all(hasattr(schema.BuiltinOperator, name) for name in table.operators)
        assert all(version > 0 for version in table.operators.values())
