"""Operators defined by others: a model's own functions, and those for which ONNX gives a definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, FunctionProto, ModelProto, NodeProto, helper

from edgepack.convert.onnx_to_torch.node import Node, Value
from edgepack.convert.onnx_to_torch.tensors import element_type

STANDARD = ("", "ai.onnx")


@dataclass(frozen=True)
class Definition:
    """nodes: with every attribute bound; inputs, outputs: their names inside; opsets: a version for each domain."""

    nodes: Sequence[NodeProto]
    inputs: Sequence[str]
    outputs: Sequence[str]
    opsets: Mapping[str, int]


def opsets_of(entries: Sequence[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {"" if entry.domain in STANDARD else entry.domain: int(entry.version) for entry in entries}


def functions_of(model: ModelProto) -> dict[tuple[str, str], FunctionProto]:
    return {(function.domain, function.name): function for function in model.functions}


def definition_of(
    node: Node, proto: NodeProto, functions: Mapping[tuple[str, str], FunctionProto]
) -> Definition | None:
    """What a node stands for, None where it is defined by nothing but itself."""
    function = functions.get((proto.domain, proto.op_type))
    if function is None and proto.domain in STANDARD:
        function = _of_schema(node, proto)
    if function is None:
        return None
    given = (
        {a.name: a for a in function.attribute_proto}
        | _defaults(proto, node.opset)
        | {a.name: a for a in proto.attribute}
    )
    opsets = {"": node.opset} | opsets_of(function.opset_import)
    return Definition([_bound(inner, given) for inner in function.node], function.input, function.output, opsets)


def _of_schema(node: Node, proto: NodeProto) -> FunctionProto | None:
    if not onnx.defs.has(proto.op_type, node.opset, ""):
        return None
    schema = onnx.defs.get_schema(proto.op_type, node.opset, "")
    function = FunctionProto()
    if schema.has_function:
        version = max((v for v in schema.function_opset_versions if v <= node.opset), default=None)
        if version is None:
            return None
        function.ParseFromString(schema.get_function_with_opset_version(version))
        return function
    if not schema.has_context_dependent_function:
        return None
    version = max((v for v in schema.context_dependent_function_opset_versions if v <= node.opset), default=None)
    if version is None:
        return None
    types = [_type(value) for value in node.inputs]
    body = schema.get_context_dependent_function_with_opset_version(version, proto.SerializeToString(), types)
    function.ParseFromString(body)
    return function


def _type(value: Value | None) -> bytes:
    if value is None:
        return b""
    proto = helper.make_tensor_type_proto(element_type(value.tensor.dtype), list(value.tensor.shape))
    return bytes(proto.SerializeToString())


def _defaults(proto: NodeProto, opset: int) -> dict[str, AttributeProto]:
    if proto.domain not in STANDARD or not onnx.defs.has(proto.op_type, opset, ""):
        return {}
    schema = onnx.defs.get_schema(proto.op_type, opset, "")
    return {name: a.default_value for name, a in schema.attributes.items() if a.default_value.name}


def _bound(proto: NodeProto, given: Mapping[str, AttributeProto]) -> NodeProto:
    """A node of a function with its references to the function's attributes replaced by what was given."""
    bound = NodeProto()
    bound.CopyFrom(proto)
    del bound.attribute[:]
    for attribute in proto.attribute:
        if attribute.ref_attr_name:
            if attribute.ref_attr_name in given:
                new = bound.attribute.add()
                new.CopyFrom(given[attribute.ref_attr_name])
                new.name = attribute.name
            continue
        new = bound.attribute.add()
        new.CopyFrom(attribute)
        for graph in [new.g, *new.graphs]:
            nodes = [_bound(inner, given) for inner in graph.node]
            del graph.node[:]
            graph.node.extend(nodes)
    return bound
