"""ONNX files in one form: the source's names, fixed shapes, and nothing that changes from one run to the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.device.run import Quantization
from edgepack.errors import InexpressibleError
from edgepack.model import Signature, TensorSpec
from edgepack.runtimes import foreign

NEWEST_OPSET = 21
NEWEST_IR = 10
"""What onnxruntime 1.19, the oldest that a profile admits, can read."""
_LARGEST = (1 << 31) - 1


def write(proto: Any, signature: Signature, out: Path) -> None:
    """Write a converter's graph: stripped of its diary, named as the signature, within what the oldest runtime reads.

    Raises InexpressibleError when it cannot be brought below opset 21.
    """
    onnx = foreign.import_framework("onnx", "onnx", "writing an ONNX model")
    proto = lower(onnx, proto)
    strip(proto)
    rename(proto, signature)
    proto.producer_name, proto.producer_version = "edgepack", ""
    onnx.checker.check_model(proto)
    out.write_bytes(serialized(proto))


def serialized(proto: Any) -> bytes:
    """The bytes of a model in one file. Raises InexpressibleError above the 2 GiB that protobuf allows."""
    if proto.ByteSize() > _LARGEST:
        raise InexpressibleError(f"the model takes {proto.ByteSize() >> 20} MiB, an ONNX file holds at most 2 GiB")
    return bytes(proto.SerializeToString(deterministic=True))


def lower(onnx: Any, proto: Any) -> Any:
    """The same model in an opset and IR version that the oldest runtime reads."""
    opset = max(
        (entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=NEWEST_OPSET
    )
    if opset > NEWEST_OPSET:
        with foreign.converting(
            f"the model needs opset {opset}", advice=f"export it with opset {NEWEST_OPSET} or lower"
        ):
            proto = onnx.version_converter.convert_version(proto, NEWEST_OPSET)
    proto.ir_version = min(proto.ir_version, NEWEST_IR)
    return proto


def strip(proto: Any) -> None:
    """Take off what exporters write down beside the model: stack traces, paths, scopes, documentation."""
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
    proto.ClearField("model_version")
    proto.ClearField("domain")
    for function in proto.functions:
        _strip_nodes(function)
    _strip_graph(proto.graph)


def show_real_values(proto: Any, inputs: Sequence[Quantization | None], outputs: Sequence[Quantization | None]) -> None:
    """Give integer inputs and outputs with a scale a real-valued border: QuantizeLinear before, DequantizeLinear behind."""
    import onnx

    graph = proto.graph
    before, behind = [], []
    for value, how in zip(graph.input, inputs, strict=True):
        if how is not None:
            inner, value.name = value.name, f"{value.name}__real"
            before.append(_border(onnx, graph, "QuantizeLinear", value.name, inner, how))
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value, how in zip(graph.output, outputs, strict=True):
        if how is not None:
            inner, value.name = value.name, f"{value.name}__real"
            behind.append(_border(onnx, graph, "DequantizeLinear", inner, value.name, how))
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    nodes = [*before, *graph.node, *behind]
    del graph.node[:]
    graph.node.extend(nodes)


def _border(onnx: Any, graph: Any, operator: str, source: str, result: str, how: Quantization) -> Any:
    scale, zero = f"{result}__scale", f"{result}__zero_point"
    stored = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(how.dtype))
    graph.initializer.append(onnx.helper.make_tensor(scale, onnx.TensorProto.FLOAT, [], [how.scale]))
    graph.initializer.append(onnx.helper.make_tensor(zero, stored, [], [how.zero_point]))
    return onnx.helper.make_node(operator, [source, scale, zero], [result], name=result)


def rename(proto: Any, signature: Signature) -> None:
    """Inputs and outputs under the signature's names, by position, everywhere they are mentioned.

    Raises InexpressibleError when their number differs from the signature's.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    outputs = [value.name for value in graph.output]
    for kind, own, specs in (("inputs", inputs, signature.inputs), ("outputs", outputs, signature.outputs)):
        if len(own) != len(specs):
            raise InexpressibleError(
                f"the converted model has the {kind} {', '.join(own)}, the source has {_names(specs)}",
                advice="return only tensors that differ from each other and from the inputs",
            )
    wanted = [spec.name for spec in (*signature.inputs, *signature.outputs)]
    new = dict(zip((*inputs, *outputs), wanted, strict=True))
    taken = set(wanted) - set(new)
    _rename_graph(graph, {**{name: f"{name}__inner" for name in taken}, **new})


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(spec.name for spec in specs)


def _strip_graph(graph: Any) -> None:
    graph.ClearField("doc_string")
    graph.ClearField("metadata_props")
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.ClearField("doc_string")
        value.ClearField("metadata_props")
    _strip_nodes(graph)


def _strip_nodes(owner: Any) -> None:
    owner.ClearField("doc_string")
    owner.ClearField("metadata_props")
    for node in owner.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _strip_graph(graph)


def _rename_graph(graph: Any, new: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                _rename_graph(inner, new)
