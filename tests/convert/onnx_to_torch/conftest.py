"""One ONNX model answered by onnxruntime and by its translation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from edgepack.convert.onnx_to_torch.tensors import dtype_name
from edgepack.convert.onnx_to_torch.translate import translate
from edgepack.model import Signature, TensorSpec

Array = NDArray[Any]
Build = Callable[..., onnx.ModelProto]
Agree = Callable[..., None]


def _signature(model: onnx.ModelProto) -> Signature:
    constants = {tensor.name for tensor in model.graph.initializer}
    return Signature(
        tuple(_spec(value) for value in model.graph.input if value.name not in constants),
        tuple(TensorSpec(value.name, ()) for value in model.graph.output),
    )


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    sizes = tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)
    return TensorSpec(value.name, sizes, dtype_name(kind.elem_type))


def _info(name: str, array: Array) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


@pytest.fixture(scope="session")
def signature_of() -> Callable[[onnx.ModelProto], Signature]:
    return _signature


@pytest.fixture(scope="session")
def build() -> Build:
    def single(
        op: str,
        opset: int,
        inputs: dict[str, Array],
        constants: dict[str, Array],
        order: list[str],
        outputs: int = 1,
        **attributes: Any,
    ) -> onnx.ModelProto:
        """A model of one node. order: the node's inputs, empty where absent."""
        names = [f"y{i}" for i in range(outputs)]
        node = onnx.helper.make_node(op, order, names, name="the_node", **attributes)
        graph = onnx.helper.make_graph(
            [node],
            "one",
            [_info(name, array) for name, array in inputs.items()],
            [onnx.helper.make_empty_tensor_value_info(name) for name in names],
            [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)

    return single


@pytest.fixture(scope="session")
def agree() -> Agree:
    """Asserts that a model's translation answers as onnxruntime does, in value, shape and dtype."""
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1

    def check(model: onnx.ModelProto, inputs: dict[str, Array], rtol: float = 1e-4, atol: float = 2e-5) -> None:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        expected = session.run(None, inputs)
        module = translate(model, _signature(model), "the model")
        with torch.no_grad():
            found = module(*(torch.from_numpy(array.copy()) for array in inputs.values()))
        for own, theirs in zip(found if isinstance(found, tuple) else (found,), expected, strict=True):
            assert own.numpy().dtype == theirs.dtype
            assert tuple(own.shape) == theirs.shape
            np.testing.assert_allclose(own.numpy().astype(np.float64), theirs.astype(np.float64), rtol=rtol, atol=atol)

    return check
