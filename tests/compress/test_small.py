"""A smaller ONNX file computes the same, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.compress import onnx_small

pytestmark = pytest.mark.frameworks

_PATH = "model/backbone/stage_with_a_long_name/block_{}"


def chain(*, nested: bool = False) -> Any:
    """Four layers of quantized integers, each with constants of its own that equal the others'; an If around nothing."""
    rng = np.random.default_rng(3)
    nodes, constants, last = [], [], "x"
    for index in range(4):
        path = _PATH.format(index)
        weights = rng.integers(-100, 100, (8, 8)).astype(np.int8)
        constants += [
            numpy_helper.from_array(weights, f"{path}/weights"),
            numpy_helper.from_array(np.full(8, 0.01, np.float32), f"{path}/scale"),
            numpy_helper.from_array(np.zeros(8, np.int8), f"{path}/zero_point"),
        ]
        nodes += [
            helper.make_node(
                "DequantizeLinear",
                [f"{path}/{part}" for part in ("weights", "scale", "zero_point")],
                [f"{path}/wide"],
                f"{path}/widen",
                axis=1,
            ),
            helper.make_node("MatMul", [last, f"{path}/wide"], [f"{path}/answer"], f"{path}/layer"),
        ]
        last = f"{path}/answer"
    nodes.append(helper.make_node("Identity", [last], ["t1"], "end"))
    if nested:
        branch = helper.make_graph(
            [helper.make_node("Identity", [last], ["inner"])],
            "b",
            [],
            [helper.make_tensor_value_info("inner", 1, None)],
        )
        constants.append(numpy_helper.from_array(np.array(True), "yes"))
        nodes.append(helper.make_node("If", ["yes"], ["other"], "if", then_branch=branch, else_branch=branch))
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 8]) for name in ["t1", *["other"] * nested]
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answers(model: Any) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(4).standard_normal((5, 8)).astype(np.float32)
    return session.run(["t1"], {"x": x})[0]


def test_it_computes_the_same_in_fewer_bytes():
    model = chain()
    before, size = answers(model), model.ByteSize()
    onnx_small.shrink(model)
    onnx.checker.check_model(model)
    assert np.array_equal(answers(model), before)
    assert model.ByteSize() < 0.6 * size
    assert len(model.graph.initializer) == 4 + 2  # weights, and one scale and one zero point for all


def test_what_people_look_for_keeps_its_name():
    model = chain()
    onnx_small.shrink(model)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["x", "t1"]
    layers = [node.name for node in model.graph.node if node.op_type == "MatMul"]
    assert layers == [f"{_PATH.format(index)}/layer" for index in range(4)]


def test_it_is_done_once():
    model = chain()
    onnx_small.shrink(model)
    once = model.SerializeToString(deterministic=True)
    onnx_small.shrink(model)
    assert model.SerializeToString(deterministic=True) == once


def test_graphs_inside_a_graph_leave_it_alone():
    model = chain(nested=True)
    before = model.SerializeToString(deterministic=True)
    onnx_small.shrink(model)
    assert model.SerializeToString(deterministic=True) == before
