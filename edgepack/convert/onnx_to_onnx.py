"""ONNX as it is, with what the signature fixes (the batch, open sizes) written into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.convert import onnx_files
from edgepack.errors import InexpressibleError
from edgepack.model import Signature
from edgepack.ports import OnnxNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays


def convert(native: OnnxNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out`: one file, whatever external data the source had; its own metadata stays."""
    onnx = foreign.import_framework("onnx", "onnx", "reading an ONNX model")
    proto = onnx_files.lower(onnx, onnx.load(native.path))
    fix_shapes(proto, signature)
    out.write_bytes(onnx_files.serialized(proto))


def fix_shapes(proto: Any, signature: Signature) -> None:
    """Every input's and output's shape as in the signature.

    onnxruntime's `make_input_shape_fixed` does as much; importing it imports torch, which takes longer than most conversions.
    Raises InexpressibleError where the file says another rank than the signature.
    """
    import onnx

    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    for value, spec in zip(inputs, signature.inputs, strict=True):
        _fix(value, spec.shape, f"input {value.name!r}")
    for value, spec in zip(proto.graph.output, signature.outputs, strict=True):
        _fix(value, spec.shape, f"output {value.name!r}")
    # Shapes inside the graph were inferred for the open batch; the runtime infers them again.
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)


def _fix(value: Any, sizes: tuple[int | None, ...], what: str) -> None:
    shape = value.type.tensor_type.shape
    if len(shape.dim) not in (0, len(sizes)):
        raise InexpressibleError(f"{what} has {len(shape.dim)} axes in the file, expected {len(sizes)}")
    del shape.dim[:]
    for size in sizes:
        axis = shape.dim.add()
        if size is not None:
            axis.dim_value = size
