"""An ONNX graph in one order under one set of names, whatever order and names its exporter's sets and counters gave it.

tf2onnx walks Python sets of names while it rewrites loops and merges equal nodes: which of two equal values survives, and in
which order nodes are written, changes from process to process. What the graph computes does not, so order and names are
taken from that: nodes in the order in which the outputs need them, values after the operator that makes them.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any


def order(graph: Any) -> None:
    """Rewrite a graph in place. Names of its inputs and outputs stay; nodes that no output needs go."""
    _order(graph, {})
    border = {value.name for value in (*graph.input, *graph.output)}
    _name(graph, {name: name for name in border}, _fresh(border))


def inner_graphs(node: Any) -> list[Any]:
    """The graphs inside a node (If, Loop, Scan)."""
    return [
        graph
        for attribute in node.attribute
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs)
    ]


def _order(graph: Any, outer: dict[str, str]) -> None:
    """outer: values of the surrounding graphs that go by another name now."""
    renamed = _without_identities(graph, outer)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        for inner in inner_graphs(node):
            _order(inner, renamed)
    makers = {name: node for node in graph.node for name in node.output if name}
    nodes = list(_needed([value.name for value in graph.output], makers))
    used = list(dict.fromkeys(name for node in nodes for name in _reads(node)))
    used += [value.name for value in graph.output if value.name not in makers]
    constants = {tensor.name: tensor for tensor in graph.initializer}
    _replace(graph.initializer, [constants[name] for name in dict.fromkeys(used) if name in constants])
    _replace(graph.node, nodes)
    del graph.value_info[:]


def _without_identities(graph: Any, outer: dict[str, str]) -> dict[str, str]:
    """Take out Identity nodes; what reads them reads their source. Returns the names that values go by from now on.

    An output that is only another name of a value stays: of several such outputs the first is what the value's maker
    writes, the others copy it.
    """
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Identity"}
    nodes = [node for node in graph.node if node.op_type != "Identity"]
    made = {name for node in nodes for name in node.output}
    outputs = defaultdict(list)
    for value in graph.output:
        outputs[_root(value.name, source)].append(value.name)
    renamed, copies = dict(outer), []
    for root in dict.fromkeys([*(_root(name, source) for name in source), *outputs]):
        same = outputs[root]
        name = same[0] if same and root in made else outer.get(root, root)
        renamed[root] = name
        copies += [_identity(name, output) for output in same if output != name]
    renamed |= {name: renamed[_root(name, source)] for name in source}
    for node in nodes:
        node.output[:] = [renamed[name] if name in made and name in renamed else name for name in node.output]
    _replace(graph.node, [*nodes, *copies])
    return renamed


def _root(name: str, source: dict[str, str]) -> str:
    while name in source:
        name = source[name]
    return name


def _identity(name: str, output: str) -> Any:
    import onnx

    return onnx.helper.make_node("Identity", [name], [output])


def _replace(field: Any, values: list[Any]) -> None:
    fresh = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(fresh)


def _reads(node: Any) -> list[str]:
    """What a node reads: its inputs, then what the graphs inside it take from around them."""
    return [name for name in node.input if name] + [name for inner in inner_graphs(node) for name in _captured(inner)]


def _captured(graph: Any) -> list[str]:
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    own |= {name for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in _reads(node)] + [value.name for value in graph.output]
    return [name for name in dict.fromkeys(read) if name not in own]


def _needed(wanted: list[str], makers: dict[str, Any]) -> Iterator[Any]:
    """The makers of values, each after those that it reads from: depth first, without recursion."""
    seen: set[int] = set()
    stack = [(makers[name], False) for name in reversed(wanted) if name in makers]
    while stack:
        node, ready = stack.pop()
        if ready:
            yield node
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack += [(makers[name], False) for name in reversed(_reads(node)) if name in makers]


def _name(graph: Any, names: dict[str, str], fresh: Callable[[str], str]) -> None:
    """names: of the values that may be read here; those of this graph are added."""
    for tensor in graph.initializer:
        names[tensor.name] = tensor.name = names.get(tensor.name) or fresh("constant")
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        for inner in inner_graphs(node):
            inner.name = fresh("graph")
            scope = dict(names)
            for value in inner.input:
                scope[value.name] = value.name = fresh("carried")
            _name(inner, scope, fresh)
            for value in inner.output:
                value.name = scope[value.name]
        node.name = fresh(node.op_type)
        for i, name in enumerate(node.output):
            if name:
                names[name] = node.output[i] = names.get(name) or f"{node.name}:{i}"


def _fresh(taken: set[str]) -> Callable[[str], str]:
    """Names that were not used yet: `Conv`, `Conv_1`, …"""
    counts: dict[str, Iterator[int]] = {}

    def draw(stem: str) -> str:
        numbers = counts.setdefault(stem, itertools.count(1))
        name = stem
        while name in taken:
            name = f"{stem}_{next(numbers)}"
        taken.add(name)
        return name

    return draw
