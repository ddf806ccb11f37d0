"""Make an ONNX file small without changing what it computes: names and repeated constants can outweigh the weights."""

from __future__ import annotations

from typing import Any

_RENAMED = ("QuantizeLinear", "DequantizeLinear")
"""Operators that a quantizer adds: nobody looks for them by name."""


def shrink(model: Any) -> None:
    """Share constants that are equal, and shorten the names of tensors that are neither input nor output.

    Zero points and scales repeat from layer to layer; an exporter's names hold the path of modules, several times a tensor.
    Operators keep their names, by which profiles and reports know them. A graph with graphs inside, or with
    other lists that refer to its names, is left as it is.
    """
    graph = model.graph
    nested = any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute)
    if nested or graph.sparse_initializer or graph.quantization_annotation:
        return
    fixed = {value.name for value in (*graph.input, *graph.output)}
    _share(graph, fixed)
    _shorten(graph, fixed)
    for node in graph.node:
        if node.op_type in _RENAMED:
            node.name = ""


def _share(graph: Any, fixed: set[str]) -> None:
    first: dict[bytes, str] = {}
    alias: dict[str, str] = {}
    for tensor in graph.initializer:
        if tensor.name not in fixed:
            nameless = type(tensor)()
            nameless.CopyFrom(tensor)
            nameless.name = ""
            alias[tensor.name] = first.setdefault(nameless.SerializeToString(deterministic=True), tensor.name)
    for node in graph.node:
        node.input[:] = [alias.get(name, name) for name in node.input]
    kept = [tensor for tensor in graph.initializer if alias.get(tensor.name, tensor.name) == tensor.name]
    copies = [type(tensor).FromString(tensor.SerializeToString()) for tensor in kept]
    del graph.initializer[:]
    graph.initializer.extend(copies)


def _shorten(graph: Any, fixed: set[str]) -> None:
    names: dict[str, str] = {}

    def short(name: str) -> str:
        if not name or name in fixed:
            return name
        if name not in names:
            candidate = f"t{len(names)}"
            names[name] = candidate if candidate not in fixed else f"{candidate}_"
        return names[name]

    for node in graph.node:
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
