"""Between ONNX's element types and tensors, numpy's and torch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto, numpy_helper

from edgepack.convert.onnx_to_torch.node import Tensor
from edgepack.model import Signature

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.uint16,
    TensorProto.UINT32: torch.uint32,
    TensorProto.UINT64: torch.uint64,
    TensorProto.BOOL: torch.bool,
}

_NAMES: dict[str, torch.dtype] = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES.values()}


def dtype_of(name: str) -> torch.dtype | None:
    """The torch dtype of numpy's name, None where torch has none."""
    return _NAMES.get(name)


def dtype_name(element_type: int) -> str:
    """numpy's name of an ONNX element type, or ONNX's own where it has none here (`STRING`)."""
    dtype = DTYPES.get(element_type)
    return TensorProto.DataType.Name(element_type) if dtype is None else str(dtype).removeprefix("torch.")


def from_proto(proto: Any) -> Tensor | None:
    """A tensor of its own memory, None for element types that torch has not (strings, 4-bit integers, 8-bit floats)."""
    dtype = DTYPES.get(proto.data_type)
    if dtype is None:
        return None
    array = numpy_helper.to_array(proto)
    if dtype is torch.bfloat16:
        return torch.tensor(array.astype(np.float32)).to(dtype)
    return torch.from_numpy(np.array(array, copy=True))


def lowest(dtype: torch.dtype) -> float | int:
    """What a maximum never picks."""
    return float("-inf") if dtype.is_floating_point else int(torch.iinfo(dtype).min)


def element_type(dtype: torch.dtype) -> int:
    """ONNX's element type of a dtype in `DTYPES`."""
    return next(number for number, own in DTYPES.items() if own == dtype)


def examples(signature: Signature) -> tuple[Tensor, ...]:
    """Zeros of the inputs' shapes, with a batch of 1 where it is open."""
    shapes = ([1 if size is None else size for size in spec.shape] for spec in signature.inputs)
    return tuple(torch.zeros(shape, dtype=_NAMES[s.dtype]) for shape, s in zip(shapes, signature.inputs, strict=True))
