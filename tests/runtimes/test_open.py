"""Model files opened on this machine with the code that runs them on a board."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack import runtimes
from edgepack.errors import InputError
from edgepack.model import TensorSpec

pytestmark = [pytest.mark.frameworks]


@pytest.fixture
def relu(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "r.onnx")
    return tmp_path / "r.onnx"


def test_onnx(relu):
    opened = runtimes.open_session(relu, "onnx")
    assert opened.inputs == (TensorSpec("x", (None, 3)),)
    assert runtimes.outputs_signature(relu, "onnx") == (TensorSpec("y", (None, 3)),)
    (y,) = runtimes.open_file(relu, "onnx")((np.array([[-1, 0, 2]], np.float32),))
    np.testing.assert_array_equal(y, [[0, 0, 2]])


@pytest.mark.parametrize(("name", "format"), [("none.onnx", "onnx"), ("junk.onnx", "onnx"), ("junk.tflite", "tflite")])
def test_files_that_cannot_be_opened(name, format, tmp_path):
    (tmp_path / "junk.onnx").write_bytes(b"junk" * 100)
    (tmp_path / "junk.tflite").write_bytes(b"junkTFL3" * 100)
    with pytest.raises(InputError, match=name):
        runtimes.open_file(tmp_path / name, format)


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.zeros((1, 4), np.float32), r"'x' has shape \[1, 4\]; expected \[\?, 3\]"),
        (np.zeros((1, 3), np.int32), "dtype int32; expected float32"),
    ],
)
def test_inputs_that_do_not_fit(x, said, relu):
    with pytest.raises(InputError, match=rf"r\.onnx: input {said}|{said}"):
        runtimes.open_file(relu, "onnx")((x,))
