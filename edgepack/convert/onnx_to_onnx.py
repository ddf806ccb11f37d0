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
    """Every input's shape as in the signature, and what follows from it in the outputs."""
    import onnx
    from onnxruntime.tools import onnx_model_utils

    constants = {tensor.name for tensor in proto.graph.initializer}
    values = [value for value in proto.graph.input if value.name not in constants]
    for value, spec in zip(values, signature.inputs, strict=True):
        onnx_model_utils.make_input_shape_fixed(proto.graph, value.name, list(spec.shape))
    for value, spec in zip(proto.graph.output, signature.outputs, strict=True):
        if len(value.type.tensor_type.shape.dim) not in (0, len(spec.shape)):
            raise InexpressibleError(f"output {value.name!r} has another rank than it says")
        del value.type.tensor_type.shape.dim[:]
        for size in spec.shape:
            value.type.tensor_type.shape.dim.add().dim_value = size or 0
    # Shapes inside the graph were inferred for the open batch; the runtime infers them again.
    del proto.graph.value_info[:]
    onnx.checker.check_model(proto)
