"""Walk an ONNX graph once: what is constant is computed now, what is not becomes a step of a module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from edgepack.convert.onnx_to_torch import tensors
from edgepack.convert.onnx_to_torch.definitions import STANDARD, Definition, definition_of, functions_of, opsets_of
from edgepack.convert.onnx_to_torch.fuse import add_biases
from edgepack.convert.onnx_to_torch.module import OnnxModule, Step
from edgepack.convert.onnx_to_torch.node import ADVICE, Call, Node, Tensor, Value
from edgepack.convert.onnx_to_torch.operators import TABLE
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import Signature, TensorSpec
from edgepack.runtimes import foreign

_OLDEST = 7  # before it, broadcasting was an attribute of each operator
_STATIC = frozenset({"Shape", "Size"})  # known as soon as shapes are
_UNROLLED = 1024  # passes of a loop, at most

_AFTERWARDS = "end the model before it, and do that step in the application: how much it returns depends on the values"
_ADVICE = dict.fromkeys(("NonMaxSuppression", "NonZero", "Unique"), _AFTERWARDS)

Scope = Mapping[str, Value]
Opsets = Mapping[str, int]


def translate_file(path: Path, signature: Signature) -> Any:
    """See `edgepack.convert.onnx_to_torch.to_module`."""
    return translate(onnx.load(path), signature, str(path))


def translate(model: ModelProto, signature: Signature, source: str) -> Any:
    """The module of a model in memory; `source` names it in messages."""
    opsets = opsets_of(model.opset_import)
    if opsets.get("", 1) < _OLDEST:
        raise InexpressibleError(
            f"{source}: opset {opsets.get('', 1)} is too old to be read",
            expected=f"opset {_OLDEST} or later",
            advice="convert the file with onnx.version_converter.convert_version, or export it again",
        )
    with torch.no_grad():
        return _Translation(source, functions_of(model)).run(model.graph, signature, opsets)


@dataclass
class _Translation:
    """One walk. slots: how many were handed out; constants: by slot; names: of steps, to keep them apart."""

    source: str
    functions: Mapping[tuple[str, str], FunctionProto]
    steps: list[Step] = field(default_factory=list)
    constants: dict[int, Tensor] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    slots: int = 0

    def run(self, graph: GraphProto, signature: Signature, opsets: Opsets) -> Any:
        initializers = {proto.name for proto in graph.initializer}
        declared = {value.name: value for value in graph.input if value.name not in initializers}
        inputs = [self._input(spec, declared) for spec in signature.inputs]
        if missing := declared.keys() - {value.name for value in inputs}:
            raise InputError(f"{self.source}: the signature leaves out the inputs {', '.join(sorted(missing))}")
        scope = self.graph(graph, {value.name: value for value in inputs}, opsets)
        outputs = [self._output(spec, scope) for spec in signature.outputs]
        steps, constants = self._needed([value.slot for value in outputs])
        return OnnxModule(steps, [v.slot for v in inputs], [v.slot for v in outputs], constants).eval()

    def _input(self, spec: TensorSpec, declared: Mapping[str, Any]) -> Value:
        if spec.name not in declared:
            raise InputError(
                f"{self.source}: has no input {spec.name!r}", expected=f"one of {', '.join(sorted(declared))}"
            )
        shape = (1 if axis == 0 and size is None else size for axis, size in enumerate(spec.shape))
        sizes = [_fixed(self.source, spec, axis, size) for axis, size in enumerate(shape)]
        own = [size.dim_value for size in declared[spec.name].type.tensor_type.shape.dim]
        if len(own) != len(sizes) or any(n not in (0, m) for n, m in zip(own, sizes, strict=True)):
            raise InputError(
                f"{self.source}: input {spec} does not fit the file, which has [{', '.join(str(n or '?') for n in own)}]",
                expected="the file's sizes, and any where it leaves one open (?)",
            )
        dtype = tensors.dtype_of(spec.dtype)
        written = tensors.dtype_name(declared[spec.name].type.tensor_type.elem_type)
        if dtype is None or written != spec.dtype:
            raise InputError(
                f"{self.source}: input {spec.name!r} is {written} in the file, {spec.dtype} in the signature",
                expected="the same dtype, one that torch has",
            )
        return self._value(spec.name, torch.zeros(sizes, dtype=dtype), known=False)

    def _output(self, spec: TensorSpec, scope: Scope) -> Value:
        if spec.name not in scope:
            raise InputError(f"{self.source}: has no output {spec.name!r}")
        return scope[spec.name]

    def _needed(self, outputs: Sequence[int]) -> tuple[list[Step], dict[int, Tensor]]:
        """The steps that the outputs depend on, and the constants that these read."""
        needed = set(outputs)
        kept: list[Step] = []
        for step in reversed(add_biases(self.steps, self.constants, outputs)):
            if needed.intersection(slot for slot in step.results if slot is not None):
                needed |= {slot for slot in step.arguments if slot is not None}
                kept.append(step)
        return kept[::-1], {slot: tensor for slot, tensor in self.constants.items() if slot in needed}

    def _value(self, name: str, tensor: Tensor, known: bool) -> Value:
        self.slots += 1
        if known:
            self.constants[self.slots] = tensor
        return Value(self.slots, name, tensor, known)

    def _result(
        self,
        node: Node,
        call: Call,
        arguments: Sequence[Value | None],
        names: Sequence[str],
        answers: Sequence[Tensor],
    ) -> list[Value | None]:
        """A new step, and the values of its results."""
        results = [self._value(n, t, known=False) if n else None for n, t in zip(names, answers, strict=True)]
        self.steps.append(Step(node.op, node.where, self._unique(node), call, _slots(arguments), _slots(results)))
        return results

    def _unique(self, node: Node) -> str:
        stem = re.sub(r"\W+", "_", node.name).strip("_") or node.op.lower()
        stem = f"{node.op.lower()}_{stem}" if stem[0].isdigit() else stem
        name, count = stem, 1
        while name in self.names or hasattr(OnnxModule, name):
            name, count = f"{stem}_{count}", count + 1
        self.names.add(name)
        return name

    # Graphs and nodes

    def graph(self, graph: GraphProto, outer: Scope, opsets: Opsets) -> dict[str, Value]:
        """The values of a graph's names, given those around it."""
        if graph.sparse_initializer:
            raise InexpressibleError(f"{self.source}: holds sparse initializers", advice="export it with dense weights")
        scope = dict(outer)
        for proto in graph.initializer:
            tensor = tensors.from_proto(proto)
            if tensor is not None:
                scope[proto.name] = self._value(proto.name, tensor, known=True)
        self._walk(graph.node, scope, opsets)
        return scope

    def _walk(self, protos: Sequence[NodeProto], scope: dict[str, Value], opsets: Opsets) -> None:
        for proto in protos:
            results = self._node(proto, scope, opsets)
            scope.update((name, value) for name, value in zip(proto.output, results, strict=False) if value is not None)

    def _node(self, proto: NodeProto, scope: Scope, opsets: Opsets) -> Sequence[Value | None]:
        node = self._read(proto, scope, opsets)
        if proto.domain in STANDARD:
            if proto.op_type == "If":
                return self._branch(node, scope, opsets)
            if proto.op_type == "Loop":
                return self._loop(node, scope, opsets)
            if proto.op_type == "Scan" and node.opset >= 9:
                return self._scan(node, scope, opsets)
            if proto.op_type in TABLE:
                return self._translated(node)
        definition = definition_of(node, proto, self.functions)
        if definition is not None:
            return self._defined(node, definition)
        return self._computed(node, proto)

    def _read(self, proto: NodeProto, scope: Scope, opsets: Opsets) -> Node:
        for name in filter(None, proto.input):
            if name not in scope:
                raise InexpressibleError(
                    f"{self.source}: {proto.op_type} (node {proto.name!r}) reads {name!r}, which nothing here makes",
                    advice="check the file with onnx.checker; strings and 4-bit or 8-bit float tensors have no translation",
                )
        inputs = [scope[name] if name else None for name in proto.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        domain = "" if proto.domain in STANDARD else proto.domain
        op = f"{domain}.{proto.op_type}" if domain else proto.op_type
        name = proto.name or next(filter(None, proto.output), "")
        return Node(op, name, opsets.get(domain, 1), self.source, inputs, tuple(proto.output), attributes)

    def _translated(self, node: Node) -> Sequence[Value | None]:
        call = TABLE[node.op](node)
        if isinstance(call, torch.nn.Module):
            call.eval()
        arguments = _arguments(node, call)
        answers = _try(node, call, arguments)
        if any(node.wants(index) for index in range(len(answers), len(node.outputs))):
            raise node.refuse(f"{len(node.outputs)} outputs are wanted, {len(answers)} can be given")
        names = [node.outputs[index] if node.wants(index) else "" for index in range(len(answers))]
        if node.op in _STATIC or all(value is None or value.known for value in node.inputs):
            return [self._value(n, t, known=True) if n else None for n, t in zip(names, answers, strict=True)]
        return self._result(node, call, arguments, names, answers)

    def _defined(self, node: Node, definition: Definition) -> Sequence[Value | None]:
        scope = {name: value for name, value in zip(definition.inputs, node.inputs, strict=False) if value is not None}
        # An input left out is an empty name inside as well.
        absent = {name for name in definition.inputs if name not in scope}
        for proto in definition.nodes:
            names = ["" if name in absent else name for name in proto.input]
            del proto.input[:]
            proto.input.extend(names)
        self._walk(definition.nodes, scope, definition.opsets)
        return [scope.get(name) for name in definition.outputs]

    def _computed(self, node: Node, proto: NodeProto) -> Sequence[Value | None]:
        """An operator without a translation is fine where everything it reads is known: it is run here and now."""
        if proto.domain not in STANDARD:
            raise node.refuse("it is not a standard operator", "export the model with standard ONNX operators only")
        if not node.inputs or not all(value is None or value.known for value in node.inputs) or "Random" in node.op:
            raise node.refuse("there is no translation of this operator", _ADVICE.get(node.op, ADVICE))
        if any(a.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for a in proto.attribute):
            raise node.refuse("it holds a graph")
        given, found = list(filter(None, proto.input)), list(filter(None, proto.output))
        once = helper.make_function("edgepack", "Once", given, found, [proto], [helper.make_opsetid("", node.opset)])
        feeds = {n: v.tensor.numpy() for n, v in zip(proto.input, node.inputs, strict=True) if v is not None}
        with foreign.converting(f"{self.source}: cannot compute {node.where}"):
            answers = dict(zip(found, ReferenceEvaluator(once).run(None, feeds, {}), strict=True))
            results = {name: torch.from_numpy(np.array(answer)) for name, answer in answers.items()}
        return [self._value(name, results[name], known=True) if name else None for name in proto.output]

    # What is decided now

    def _branch(self, node: Node, scope: Scope, opsets: Opsets) -> Sequence[Value | None]:
        if not node.known(0):
            raise node.refuse(
                f"its condition ({node.input_name(0)}) depends on the model's inputs",
                "give the model a constant there (fix the input that decides before exporting), so that one branch remains",
            )
        graph = node.attributes["then_branch" if node.scalar(0) else "else_branch"]
        inner = self.graph(graph, scope, opsets)
        return [inner[output.name] for output in graph.output]

    def _loop(self, node: Node, scope: Scope, opsets: Opsets) -> Sequence[Value | None]:
        """A loop whose number of passes is known, unrolled."""
        count = int(node.scalar(0)) if node.has(0) else _UNROLLED + 1
        running = not node.has(1) or _decided(node, node.inputs[1])
        body: GraphProto = node.attributes["body"]
        carried: list[Value | None] = list(node.inputs[2:])
        scans: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
        passes = 0
        while running and passes < count:
            _check_passes(node, passes + 1)
            names = [value.name for value in body.input]
            turn = [self._value(n, torch.tensor(v), known=True) for n, v in zip(names, (passes, True), strict=False)]
            found = self._pass(body, [*turn, *carried], scope, opsets)
            running = _decided(node, found[0])
            carried = list(found[1 : 1 + len(carried)])
            for scan, value in zip(scans, found[1 + len(carried) :], strict=True):
                scan.append(value)
            passes += 1
        return [*carried, *(self._stacked(node, scan, 0) for scan in scans)]

    def _scan(self, node: Node, scope: Scope, opsets: Opsets) -> Sequence[Value | None]:
        """A scan, unrolled over the fixed length of what it scans."""
        body: GraphProto = node.attributes["body"]
        width = node.integer("num_scan_inputs")
        states, scanned = list(node.inputs[:-width]), node.inputs[-width:]
        axes, backwards = node.integers("scan_input_axes"), node.integers("scan_input_directions")
        axes, backwards = axes or (0,) * width, backwards or (0,) * width
        first = len(node.inputs) - width
        steps = node.shape(first)[node.axis(axes[0], first)]
        _check_passes(node, steps)
        scans: list[list[Value]] = [[] for _ in body.output[len(states) :]]
        for turn in range(steps):
            slices = [
                self._slice(node, value, axis, steps - 1 - turn if back else turn)
                for value, axis, back in zip(scanned, axes, backwards, strict=True)
            ]
            found = self._pass(body, [*states, *slices], scope, opsets)
            states = list(found[: len(states)])
            for scan, value in zip(scans, found[len(states) :], strict=True):
                scan.append(value)
        into, turned = node.integers("scan_output_axes"), node.integers("scan_output_directions")
        ways = zip(scans, into or (0,) * len(scans), turned or (0,) * len(scans), strict=True)
        return [*states, *(self._stacked(node, scan[::-1] if back else scan, axis) for scan, axis, back in ways)]

    def _pass(self, body: GraphProto, entering: Sequence[Value | None], scope: Scope, opsets: Opsets) -> list[Value]:
        """The outputs of a loop's body for once."""
        names = [value.name for value in body.input]
        given = {name: value for name, value in zip(names, entering, strict=True) if value is not None}
        inner = self.graph(body, {**scope, **given}, opsets)
        return [inner[output.name] for output in body.output]

    def _slice(self, node: Node, value: Value | None, axis: int, at: int) -> Value | None:
        if value is None:
            return None
        piece = value.tensor.select(axis, at)
        if value.known:
            return self._value(value.name, piece, known=True)
        return self._result(node, lambda x: x.select(axis, at), [value], [value.name], [piece])[0]

    def _stacked(self, node: Node, scan: Sequence[Value], axis: int) -> Value | None:
        if not scan:
            raise node.refuse("it makes no pass, so the shape of what it gathers is unknown")
        stacked = torch.stack([value.tensor for value in scan], axis)
        if all(value.known for value in scan):
            return self._value(node.name, stacked, known=True)
        return self._result(node, lambda *values: torch.stack(values, axis), scan, [node.name], [stacked])[0]


def _check_passes(node: Node, passes: int) -> None:
    if passes > _UNROLLED:
        raise node.refuse(f"it has more than {_UNROLLED} passes")


def _try(node: Node, call: Call, arguments: Sequence[Value | None]) -> tuple[Tensor, ...]:
    """Run once, on constants or on zeros: the shapes of what follows, and whether torch can do it at all."""
    try:
        answer = call(*(None if value is None else value.tensor for value in arguments))
    except (RuntimeError, IndexError) as error:
        shapes = ", ".join("none" if v is None else f"{list(v.tensor.shape)}" for v in node.inputs)
        raise node.refuse(f"with inputs of shapes {shapes} torch says: {str(error).splitlines()[0]}") from error
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


def _arguments(node: Node, call: Call) -> list[Value | None]:
    """What arrives at run time; see `Call`."""
    values = [None if index in node.consumed else value for index, value in enumerate(node.inputs)]
    return [value for value in values if value is not None] if isinstance(call, torch.nn.Module) else values


def _slots(values: Sequence[Value | None]) -> tuple[int | None, ...]:
    return tuple(None if value is None else value.slot for value in values)


def _decided(node: Node, value: Value | None) -> bool:
    if value is None or not value.known:
        raise node.refuse("whether it goes on depends on the model's inputs")
    return bool(value.tensor.item())


def _fixed(source: str, spec: TensorSpec, axis: int, size: int | None) -> int:
    if size is None:
        raise InputError(
            f"{source}: input {spec.name!r} leaves its dimension {axis} open ({spec})",
            expected="a fixed size for every dimension but the batch, which TFLite compiles for 1",
            advice=f"give the shape of {spec.name!r} in edgepack.toml ([model] inputs), or export the model with it",
        )
    return size
