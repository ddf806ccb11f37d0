"""One order and one set of names for equal graphs, which still compute the same."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgepack.convert import onnx_order

pytestmark = [pytest.mark.frameworks]

FLOAT = TensorProto.FLOAT


def value(name: str, *shape: int):
    return helper.make_tensor_value_info(name, FLOAT, shape)


def graph_of(prefix: str, order: list[int], chosen: int) -> onnx.ModelProto:
    """y, z = (relu(x) + c) * (x + c), of which `z` is a copy; in any order that is valid, under any inner names.

    chosen: which of the two equal outputs the multiplication writes, and whether its reader reads the copy
    """
    n = lambda name: f"{prefix}{name}"  # noqa: E731
    made, copied = ("y", "z") if chosen & 1 else ("z", "y")
    nodes = [
        helper.make_node("Relu", ["x"], [n("r")], name=n("1")),
        helper.make_node("Add", ["x", n("c")], [n("b")], name=n("2")),
        helper.make_node("Identity", [n("b")], [n("b2")]),
        helper.make_node("Add", [n("r"), n("c")], [n("a")], name=n("3")),
        helper.make_node("Mul", [n("a"), n("b2") if chosen & 2 else n("b")], [made], name=n("4")),
        helper.make_node("Identity", [made], [copied]),
        helper.make_node("Neg", [copied if chosen & 4 else made], ["w"]),
        helper.make_node("Exp", ["x"], [n("dead")]),
    ]
    ready, ordered = {"x", n("c")}, []
    waiting = [nodes[i] for i in order]
    while waiting:
        node = next(node for node in waiting if set(node.input) <= ready)
        waiting.remove(node)
        ordered.append(node)
        ready |= set(node.output)
    constant = helper.make_tensor(n("c"), FLOAT, [2], [1.0, -2.0])
    unused = helper.make_tensor(n("u"), FLOAT, [1], [0.0])
    outputs = [value("y", 1, 2), value("w", 1, 2), value("z", 1, 2)]
    graph = helper.make_graph(ordered, "g", [value("x", 1, 2)], outputs, [unused, constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def answers(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(8)), st.integers(0, 7), st.sampled_from(["", "long/name__17/", "Mul"]))
def test_equal_graphs_become_one(order, chosen, prefix):
    reference, model = graph_of("p", list(range(8)), 7), graph_of(prefix, order, chosen)
    x = np.array([[0.5, -3.0]], np.float32)
    before = answers(model, x)
    onnx_order.order(model.graph)
    onnx_order.order(reference.graph)
    assert model.graph.SerializeToString(deterministic=True) == reference.graph.SerializeToString(deterministic=True)
    assert [node.op_type for node in model.graph.node].count("Identity") == 1
    for one, two in zip(before, answers(model, x), strict=True):
        np.testing.assert_array_equal(one, two)


def loop_model() -> onnx.ModelProto:
    """Three times: s = s + x * k, with k and x taken from around the loop, a copy of s collected each time."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["outer_x", "k"], ["p"]),
            helper.make_node("Add", ["s_in", "p"], ["s_new"]),
            helper.make_node("Identity", ["s_new"], ["s_out"]),
            helper.make_node("Identity", ["s_out"], ["collected"]),
            helper.make_node("Identity", ["go_in"], ["go_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_in", TensorProto.BOOL, []),
            value("s_in", 1, 2),
        ],
        [helper.make_tensor_value_info("go_out", TensorProto.BOOL, []), value("s_out", 1, 2), value("collected", 1, 2)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Identity", ["x"], ["outer_x"]),
            helper.make_node("Loop", ["count", "go", "outer_x"], ["last", "all"], body=body),
        ],
        "g",
        [value("x", 1, 2)],
        [value("last", 1, 2), value("all", 3, 1, 2)],
        [
            helper.make_tensor("k", FLOAT, [], [2.0]),
            helper.make_tensor("go", TensorProto.BOOL, [], [True]),
            helper.make_tensor("count", TensorProto.INT64, [], [3]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_loops_keep_what_they_take_from_around_them():
    model, x = loop_model(), np.array([[1.0, -1.0]], np.float32)
    before = answers(model, x)
    onnx_order.order(model.graph)
    again = model.graph.SerializeToString(deterministic=True)
    for one, two in zip(before, answers(model, x), strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(before[0], x * 7)
    onnx_order.order(model.graph)
    assert model.graph.SerializeToString(deterministic=True) == again, "ordering twice is ordering once"
