"""What every tensor of an ONNX file holds for a sample, through onnxruntime itself: its tensors become outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepack.compress.calibration import Watch
from edgepack.runtimes import foreign
from edgepack.samples import Array, Arrays

_AT_ONCE = 128 * 2**20
"""Bytes of tensors that are fetched in one run; a model with larger ones is run again for the next chunk of them."""
_FLOAT = 1


def watch(model: Any, names: tuple[str, ...]) -> Watch:
    """Watch the float tensors of `model` (a ModelProto). names: its inputs, in the order of a sample's arrays."""
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    inferred = onnx.shape_inference.infer_shapes(model)
    sizes = _sizes(inferred)
    loud = onnx.ModelProto()
    loud.CopyFrom(model)
    known = {output.name for output in loud.graph.output}
    loud.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, _FLOAT, None) for name in sizes if name not in known
    )
    session = open_session(loud.SerializeToString())
    chunks = _chunks(sizes)

    def tensors(batch: Arrays) -> Iterator[tuple[str, Array]]:
        feed = dict(zip(names, batch, strict=True))
        yield from ((name, values) for name, values in feed.items() if values.dtype == np.float32)
        for chunk in chunks:
            yield from zip(chunk, session.run(list(chunk), feed), strict=True)

    return tensors


def open_session(data: bytes) -> Any:
    """An onnxruntime session in one thread, its graph left as it is."""
    runtime = foreign.import_framework("onnxruntime", "onnx", "quantizing ONNX")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _sizes(inferred: Any) -> dict[str, int]:
    """The bytes of each float tensor that a node computes, in the graph's order; open sizes count as one."""
    infos = {info.name: info.type.tensor_type for info in (*inferred.graph.value_info, *inferred.graph.output)}
    found: dict[str, int] = {}
    for node in inferred.graph.node:
        for name in node.output:
            kind = infos.get(name)
            if kind is not None and kind.elem_type == _FLOAT and node.op_type != "Constant":
                found[name] = 4 * int(np.prod([max(int(axis.dim_value), 1) for axis in kind.shape.dim]))
    return found


def _chunks(sizes: dict[str, int]) -> tuple[tuple[str, ...], ...]:
    chunks: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if chunks[-1] and filled + size > _AT_ONCE:
            chunks.append([])
            filled = 0
        chunks[-1].append(name)
        filled += size
    return tuple(tuple(chunk) for chunk in chunks if chunk)
