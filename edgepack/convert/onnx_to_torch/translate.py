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
from onnx import ModelProto, NodeProto, helper

from edgepack.convert.onnx_to_torch import tensors
from edgepack.convert.onnx_to_torch.fuse import add_biases
from edgepack.convert.onnx_to_torch.module import OnnxModule, Step
from edgepack.convert.onnx_to_torch.node import Call, Node, Tensor, Value
from edgepack.convert.onnx_to_torch.operators import TABLE
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import Signature, TensorSpec

_STANDARD = ("", "ai.onnx")
_OLDEST = 7  # before it, broadcasting was an attribute of each operator
_STATIC = frozenset({"Shape", "Size"})  # known as soon as shapes are
_UNROLLED = 1024  # passes of a loop, at most

Scope = Mapping[str, Value]


def translate_file(path: Path, signature: Signature) -> OnnxModule:
    """See `edgepack.convert.onnx_to_torch.to_module`."""
    return translate(onnx.load(path), signature, str(path))


def translate(model: ModelProto, signature: Signature, source: str) -> OnnxModule:
    """The module of a model in memory; `source` names it in messages."""
    with torch.no_grad():
        return _Translation(source, _opsets(model, source)).run(_expanded(model), signature)


def _opsets(model: ModelProto, source: str) -> dict[str, int]:
    opsets = {entry.domain: int(entry.version) for entry in model.opset_import}
    standard = opsets.get("", opsets.get("ai.onnx", 1))
    if standard < _OLDEST:
        raise InexpressibleError(
            f"{source}: opset {standard} is too old to be read",
            expected=f"opset {_OLDEST} or later",
            advice="convert the file with onnx.version_converter.convert_version, or export it again",
        )
    return {**opsets, "": standard}


def _expanded(model: ModelProto) -> ModelProto:
    """The model without its functions, and without operators that ONNX defines by others and we do not know ourselves."""
    from onnx.inliner import inline_selected_functions

    return inline_selected_functions(model, [("", name) for name in TABLE], exclude=True, inline_schema_functions=True)


@dataclass
class _Translation:
    """One walk: slots are handed out in order, steps and names gathered on the way."""

    source: str
    opsets: Mapping[str, int]
    steps: list[Step] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    slots: int = 0
    constants: dict[int, Tensor] = field(default_factory=dict)

    def run(self, model: ModelProto, signature: Signature) -> OnnxModule:
        graph = model.graph
        initializers = {proto.name for proto in graph.initializer}
        declared = {value.name: value for value in graph.input if value.name not in initializers}
        inputs = [self._input(spec, declared) for spec in signature.inputs]
        if missing := declared.keys() - {value.name for value in inputs}:
            raise InputError(f"{self.source}: the signature leaves out the inputs {', '.join(sorted(missing))}")
        scope = self.graph(graph, {value.name: value for value in inputs})
        outputs = [self._output(spec, scope) for spec in signature.outputs]
        steps, constants = self._needed(outputs)
        return OnnxModule(steps, [v.slot for v in inputs], [v.slot for v in outputs], constants).eval()

    # -- values

    def value(self, name: str, tensor: Tensor, known: bool) -> Value:
        self.slots += 1
        return Value(self.slots, name, tensor, known)

    def _input(self, spec: TensorSpec, declared: Mapping[str, Any]) -> Value:
        if spec.name not in declared:
            raise InputError(
                f"{self.source}: has no input {spec.name!r}", expected=f"one of {', '.join(sorted(declared))}"
            )
        shape = (1 if axis == 0 and size is None else size for axis, size in enumerate(spec.shape))
        sizes = [_fixed(self.source, spec, axis, size) for axis, size in enumerate(shape)]
        dtype = tensors.dtype_of(spec.dtype)
        written = tensors.dtype_name(declared[spec.name].type.tensor_type.elem_type)
        if dtype is None or written != spec.dtype:
            raise InputError(
                f"{self.source}: input {spec.name!r} is {written} in the file, {spec.dtype} in the signature",
                expected="the same dtype, one that torch has",
            )
        return self.value(spec.name, torch.zeros(sizes, dtype=dtype), known=False)

    def _output(self, spec: TensorSpec, scope: Scope) -> Value:
        if spec.name not in scope:
            raise InputError(f"{self.source}: has no output {spec.name!r}")
        return scope[spec.name]

    def _needed(self, outputs: Sequence[Value]) -> tuple[list[Step], dict[int, Tensor]]:
        """The steps that the outputs depend on, and the constants that these read."""
        needed = {value.slot for value in outputs}
        kept: list[Step] = []
        for step in reversed(add_biases(self.steps, self.constants, needed)):
            if needed.intersection(slot for slot in step.results if slot is not None):
                needed |= {slot for slot in step.arguments if slot is not None}
                kept.append(step)
        constants = {slot: tensor for slot, tensor in self.constants.items() if slot in needed}
        return kept[::-1], constants

    # -- graphs

    def graph(self, graph: Any, outer: Scope) -> dict[str, Value]:
        """The values of a graph's names, given those around it."""
        scope = dict(outer)
        for proto in graph.initializer:
            tensor = tensors.from_proto(proto)
            if tensor is not None:
                scope[proto.name] = self.known(proto.name, tensor)
        if graph.sparse_initializer:
            raise InexpressibleError(f"{self.source}: holds sparse initializers", advice="export it with dense weights")
        for proto in graph.node:
            results = self.node(proto, scope)
            scope.update((name, value) for name, value in zip(proto.output, results, strict=False) if value is not None)
        return scope

    def known(self, name: str, tensor: Tensor) -> Value:
        value = self.value(name, tensor, known=True)
        self.constants[value.slot] = tensor
        return value

    def node(self, proto: NodeProto, scope: Scope) -> list[Value | None]:
        node = self._read(proto, scope)
        if proto.op_type == "If" and proto.domain in _STANDARD:
            return self._branch(node, scope)
        if proto.op_type == "Loop" and proto.domain in _STANDARD:
            return self._loop(node, scope)
        if proto.domain not in _STANDARD or proto.op_type not in TABLE:
            return self._foreign(node, proto)
        call = TABLE[proto.op_type](node)
        if isinstance(call, torch.nn.Module):
            call.eval()
        arguments = _arguments(node, call)
        answers = self._try(node, call, arguments)
        if any(node.wants(index) for index in range(len(answers), len(node.outputs))):
            raise node.refuse(f"{len(node.outputs)} outputs are wanted, {len(answers)} can be given")
        names = [node.outputs[i] if node.wants(i) else "" for i in range(len(answers))]
        if proto.op_type in _STATIC or all(value is None or value.known for value in node.inputs):
            return [self.known(name, t) if name else None for name, t in zip(names, answers, strict=True)]
        results = [self.value(n, t, known=False) if n else None for n, t in zip(names, answers, strict=True)]
        self.steps.append(Step(node.op, self._unique(node), call, _slots(arguments), _slots(results)))
        return list(results)

    def _read(self, proto: NodeProto, scope: Scope) -> Node:
        def find(name: str) -> Value:
            if name not in scope:
                raise InexpressibleError(
                    f"{self.source}: {proto.op_type} (node {proto.name!r}) reads {name!r}, which nothing that can be expressed makes",
                    advice="check the file with onnx.checker; strings and 4-bit or 8-bit float tensors have no translation",
                )
            return scope[name]

        inputs = [find(name) if name else None for name in proto.input]
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        opset = self.opsets.get("" if proto.domain in _STANDARD else proto.domain, 1)
        op = proto.op_type if proto.domain in _STANDARD else f"{proto.domain}.{proto.op_type}"
        name = proto.name or (proto.output[0] if proto.output else "")
        return Node(op, name, opset, self.source, inputs, tuple(proto.output), attributes)

    def _try(self, node: Node, call: Call, arguments: Sequence[Value | None]) -> tuple[Tensor, ...]:
        """Run once, on constants or on zeros: the shapes of what follows, and whether torch can do it at all."""
        try:
            answer = call(*(None if value is None else value.tensor for value in arguments))
        except (RuntimeError, IndexError) as error:
            shapes = ", ".join("none" if v is None else f"{list(v.tensor.shape)}" for v in node.inputs)
            raise node.refuse(f"with inputs of shapes {shapes} torch says: {str(error).splitlines()[0]}") from error
        return tuple(answer) if isinstance(answer, tuple | list) else (answer,)

    def _unique(self, node: Node) -> str:
        stem = re.sub(r"\W+", "_", node.name).strip("_") or node.op.lower()
        stem = f"{node.op.lower()}_{stem}" if stem[0].isdigit() else stem
        name, count = stem, 1
        while name in self.names or hasattr(torch.nn.Module, name):
            name, count = f"{stem}_{count}", count + 1
        self.names.add(name)
        return name

    # -- what is decided or computed now

    def _foreign(self, node: Node, proto: NodeProto) -> list[Value | None]:
        """An operator without a translation: fine where everything it reads is known, for then it is run here and now."""
        if proto.domain not in _STANDARD:
            raise node.refuse("it is not a standard operator", "export the model with standard ONNX operators only")
        if not all(value is None or value.known for value in node.inputs) or "Random" in node.op:
            raise node.refuse("there is no translation of this operator")
        from onnx.reference import ReferenceEvaluator

        single = helper.make_function(
            "edgepack", "Once", list(filter(None, proto.input)), list(filter(None, proto.output)), [proto],
            [helper.make_opsetid("", node.opset)],
        )  # fmt: skip
        feeds = {value.name: np.asarray(value.tensor.numpy()) for value in node.inputs if value is not None}
        answers = ReferenceEvaluator(single).run(None, feeds)
        found = dict(zip(filter(None, proto.output), answers, strict=True))
        return [self.known(n, torch.from_numpy(np.array(found[n]))) if n else None for n in proto.output]

    def _branch(self, node: Node, scope: Scope) -> list[Value | None]:
        if not node.known(0):
            raise node.refuse(
                f"its condition depends on the model's inputs{_reasons(node)}",
                "give the model a constant there (fix that input before exporting), so that one branch remains",
            )
        graph = node.attributes["then_branch" if node.scalar(0) else "else_branch"]
        inner = self.graph(graph, scope)
        return [inner[output.name] for output in graph.output]

    def _loop(self, node: Node, scope: Scope) -> list[Value | None]:
        """A loop whose number of passes is known, unrolled."""
        count = int(node.scalar(0)) if node.has(0) else _UNROLLED + 1
        running = self._decided(node, node.inputs[1]) if node.has(1) else True
        body = node.attributes["body"]
        carried = list(node.inputs[2:])
        scans: list[list[Value]] = [[] for _ in body.output[1 + len(carried) :]]
        passes = 0
        while running and passes < count:
            if passes == _UNROLLED:
                raise node.refuse(f"it has more than {_UNROLLED} passes")
            names = [value.name for value in body.input]
            now = [self.known(names[0], torch.tensor(passes)), self.known(names[1], torch.tensor(True)), *carried]
            inner = self.graph(body, {**scope, **{n: v for n, v in zip(names, now, strict=True) if v is not None}})
            found = [inner[output.name] for output in body.output]
            running = self._decided(node, found[0])
            carried = list(found[1 : 1 + len(carried)])
            for scan, value in zip(scans, found[1 + len(carried) :], strict=True):
                scan.append(value)
            passes += 1
        return [*carried, *(self._stacked(node, scan) for scan in scans)]

    def _decided(self, node: Node, value: Value | None) -> bool:
        if value is None or not value.known:
            raise node.refuse("whether it goes on depends on the model's inputs")
        return bool(value.tensor.item())

    def _stacked(self, node: Node, scan: Sequence[Value]) -> Value:
        if not scan:
            raise node.refuse("it makes no pass, so the shape of what it gathers is unknown")
        stacked = torch.stack([value.tensor for value in scan])
        if all(value.known for value in scan):
            return self.known(node.name, stacked)
        result = self.value(node.name, stacked, known=False)
        self.steps.append(Step(node.op, self._unique(node), lambda *values: torch.stack(values), _slots(scan), (result.slot,)))
        return result


def _arguments(node: Node, call: Call) -> list[Value | None]:
    """What arrives at run time; see `Call`."""
    values = [None if index in node.consumed else value for index, value in enumerate(node.inputs)]
    return [value for value in values if value is not None] if isinstance(call, torch.nn.Module) else values


def _slots(values: Sequence[Value | None]) -> tuple[int | None, ...]:
    return tuple(None if value is None else value.slot for value in values)


def _reasons(node: Node) -> str:
    value = node.inputs[0]
    return "" if value is None else f" ({value.name!r})"


def _fixed(source: str, spec: TensorSpec, axis: int, size: int | None) -> int:
    if size is None:
        raise InputError(
            f"{source}: input {spec.name!r} leaves its dimension {axis} open ({spec})",
            expected="a fixed size for every dimension but the batch, which TFLite compiles for 1",
            advice=f"give the shape of {spec.name!r} in edgepack.toml ([model] inputs), or export the model with it",
        )
    return size

