"""Products are counted on the file, as they are on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgepack.errors import InputError
from edgepack.estimate import count
from edgepack.work import Work

pytestmark = pytest.mark.frameworks


def write_onnx(
    path: Path, nodes: list[tuple[str, list[str], dict[str, Any]]], weights: dict[str, tuple[int, ...]], shape: Any
) -> Path:
    """A chain: each node takes the one before it, and the named weights."""
    import onnx
    from onnx import helper, numpy_helper

    made, last = [], "x"
    for index, (kind, names, attributes) in enumerate(nodes):
        made.append(helper.make_node(kind, [last, *names], [f"t{index}"], **attributes))
        last = f"t{index}"
    graph = helper.make_graph(
        made,
        "chain",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.full(size, 0.01, np.float32), name) for name, size in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def separable(path: Path, channels: int = 16, size: int = 32) -> Path:
    """A 3 x 3 convolution, a depthwise one of step 2, a pointwise one, a mean, a fully connected layer."""
    nodes = [
        ("Conv", ["dense"], {"pads": [1, 1, 1, 1]}),
        ("Relu", [], {}),
        ("Conv", ["depth"], {"pads": [1, 1, 1, 1], "strides": [2, 2], "group": channels}),
        ("Conv", ["point"], {}),
        ("GlobalAveragePool", [], {}),
        ("Flatten", [], {}),
        ("Gemm", ["full"], {"transB": 1}),
    ]
    weights = {
        "dense": (channels, 3, 3, 3),
        "depth": (channels, 1, 3, 3),
        "point": (2 * channels, channels, 1, 1),
        "full": (10, 2 * channels),
    }
    return write_onnx(path, nodes, weights, ["n", 3, size, size])


def test_every_kind_is_counted_for_one_sample(tmp_path: Path) -> None:
    assert count(separable(tmp_path / "net.onnx"), "onnx") == Work(
        dense=32 * 32 * 16 * 27,
        depthwise=16 * 16 * 16 * 9,
        pointwise=16 * 16 * 32 * 16,
        matrix=320,
        parameters=16 * 27 + 16 * 9 + 512 + 320,
    )


def test_transposed_grouped_and_recurrent_ones_too(tmp_path: Path) -> None:
    up = write_onnx(
        tmp_path / "up.onnx", [("ConvTranspose", ["w"], {"strides": [2, 2]})], {"w": (4, 8, 2, 2)}, [1, 4, 5, 5]
    )
    assert count(up, "onnx").dense == 4 * 5 * 5 * 2 * 2 * 8
    grouped = write_onnx(tmp_path / "g.onnx", [("Conv", ["w"], {"group": 2})], {"w": (8, 2, 3, 3)}, [1, 4, 5, 5])
    assert count(grouped, "onnx").dense == 8 * 3 * 3 * 2 * 9
    lstm = write_onnx(
        tmp_path / "l.onnx", [("LSTM", ["w", "r"], {"hidden_size": 6})], {"w": (1, 24, 5), "r": (1, 24, 6)}, [7, 1, 5]
    )
    assert count(lstm, "onnx").matrix == 7 * 24 * (5 + 6)


def test_a_quantized_file_computes_as_much(tmp_path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    file = separable(tmp_path / "net.onnx")
    quantize_dynamic(file, tmp_path / "int8.onnx")
    before, after = count(file, "onnx"), count(tmp_path / "int8.onnx", "onnx")
    assert (before.macs, before.depthwise) == (after.macs, after.depthwise)


def _tflite(path: Path) -> Path:
    """Operators with shapes and no data: what counting reads."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    shapes = [
        [1, 32, 32, 3], [16, 3, 3, 3], [1, 32, 32, 16], [1, 3, 3, 16], [1, 16, 16, 16], [32, 1, 1, 16], [1, 16, 16, 32],
        [1, 32], [10, 32], [1, 10],
    ]  # fmt: skip
    held = {1: 432, 3: 144, 5: 512, 8: 320}
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers = 3, [schema.BufferT()]
    graph.tensors = []
    for index, shape in enumerate(shapes):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = f"t{index}", shape, schema.TensorType.INT8, 0
        if index in held:
            buffer = schema.BufferT()
            buffer.data, tensor.buffer = np.ones(held[index], np.uint8), len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(tensor)
    builtin = schema.BuiltinOperator
    kinds = [builtin.CONV_2D, builtin.DEPTHWISE_CONV_2D, builtin.CONV_2D, builtin.MEAN, builtin.FULLY_CONNECTED]
    places = [([0, 1], 2), ([2, 3], 4), ([4, 5], 6), ([6], 7), ([7, 8], 9)]
    model.operatorCodes, graph.operators = [], []
    for index, (kind, (inputs, output)) in enumerate(zip(kinds, places, strict=True)):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = kind
        model.operatorCodes.append(code)
        operator.opcodeIndex, operator.inputs, operator.outputs = index, inputs, [output]
        graph.operators.append(operator)
    graph.inputs, graph.outputs, model.subgraphs = [0], [9], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def test_both_formats_of_one_net_count_the_same(tmp_path: Path) -> None:
    assert count(_tflite(tmp_path / "net.tflite"), "tflite") == count(separable(tmp_path / "net.onnx"), "onnx")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    for name in ("broken.onnx", "broken.tflite"):
        (tmp_path / name).write_bytes(b"no model at all")
        with pytest.raises(InputError, match=name):
            count(tmp_path / name, "onnx" if name.endswith("onnx") else "tflite")
