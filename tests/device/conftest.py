"""Tiny model files, written operator by operator: no converter, so that what is tested is only how a file is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Names = tuple[str, ...]


@pytest.fixture
def affine_onnx(tmp_path: Path) -> Path:
    """y = x @ w + 1 with x: float32[n, 4], w of ones: float32[4, 3]."""
    onnx = pytest.importorskip("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(np.ones((4, 3), np.float32), "w"),
            numpy_helper.from_array(np.ones(3, np.float32), "b"),
        ],
    )
    path = tmp_path / "affine.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def subtract_tflite(tmp_path: Path) -> Callable[..., Path]:
    """Writes y = a - b over `[1, 4]` as TFLite.

    names: of (a, b) and (y,) in a signature, or none for a file without one; signature_order: how the signature lists the
    inputs; scale, zero_point: make it int8
    """

    def write(
        inputs: Names = ("args_0", "args_1"),
        graph_order: tuple[int, int] = (0, 1),
        signature: bool = True,
        scale: float | None = None,
        zero_point: int = 0,
    ) -> Path:
        schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
        import flatbuffers

        model = schema.ModelT()
        model.version, model.buffers = 3, [schema.BufferT()]
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SUB
        code.version = 1
        model.operatorCodes = [code]
        graph = schema.SubGraphT()
        graph.tensors = [_tensor(schema, name, scale, zero_point) for name in ("a", "b", "y")]
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [0, 1], [2]
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SubOptions, schema.SubOptionsT()
        graph.operators, graph.inputs, graph.outputs = [operator], list(graph_order), [2]
        model.subgraphs = [graph]
        if signature:
            definition = schema.SignatureDefT()
            definition.signatureKey, definition.subgraphIndex = "serving_default", 0
            definition.inputs = [_entry(schema, name, index) for index, name in enumerate(inputs)]
            definition.outputs = [_entry(schema, "output_0", 2)]
            model.signatureDefs = [definition]
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        path = tmp_path / "subtract.tflite"
        path.write_bytes(bytes(builder.Output()))
        return path

    return write


def _tensor(schema, name, scale, zero_point):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = name, [1, 4], 0
    tensor.type = schema.TensorType.FLOAT32 if scale is None else schema.TensorType.INT8
    if scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]
    return tensor


def _entry(schema, name, index):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
