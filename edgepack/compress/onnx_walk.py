"""A float ONNX file and its quantized form side by side, cut into stages that end at a layer, each run by onnxruntime once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.compress import onnx_graph
from edgepack.compress.correction import Channels, Layer, nearest
from edgepack.compress.onnx_watch import open_session
from edgepack.compress.operators import Operator
from edgepack.compress.rounding import Rows, windows
from edgepack.runtimes import foreign
from edgepack.samples import Array, Samples

CHANNELS = {"Conv": 1, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
"""The axis of the channels in the output of a layer."""
_MATRICES = ("Gemm", "MatMul")
_BIAS = 2
_INT8, _INT32 = 3, 6


class OnnxWalk:
    """See correction.Walk. float_model, quantized: ModelProtos whose nodes keep their names; `shift` writes into `quantized`."""

    def __init__(self, float_model: Any, quantized: Any, names: Sequence[str], samples: Samples) -> None:
        self._float = Stages(float_model, names, samples)
        self._quantized = Stages(quantized, names, samples)
        self._constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
        self._floats = {tensor.name: tensor for tensor in float_model.graph.initializer}
        self.layers = tuple(self._layers(float_model))

    def reach(self, layer: Layer) -> Iterable[tuple[Array, Array]]:
        axis = CHANNELS[layer.operator.kind]
        for expected, actual in zip(
            self._float.reach(layer.operator.name), self._quantized.reach(layer.operator.name), strict=True
        ):
            yield np.moveaxis(expected, axis, -1), np.moveaxis(actual, axis, -1)

    def rows(self, layer: Layer) -> Rows | None:
        node = self._quantized.nodes[layer.operator.name]
        grid = self._grid(node)
        if grid is None:
            return None
        steps, limit = grid
        given = self._quantized.tensor(node.input[0])
        real = onnx_graph.array(self._floats[self._float.nodes[node.name].input[1]]).astype(np.float32)
        if node.op_type in _MATRICES:
            real = real.T if _is_upright(node) else real
            inputs = np.concatenate([values.reshape(-1, real.shape[1]) for values in given])[None].astype(np.float32)
            return Rows(real[None], np.broadcast_to(steps, (len(real), steps.shape[1]))[None], inputs, limit)
        images = [
            values[0] if real.ndim == 4 else values[0][:, None] for values in given
        ]  # of one axis: as of height 1
        groups, kernel = _attribute(node, "group", 1), (1, *real.shape[2:])[-2:]
        if images[0].shape[1] < kernel[0] or images[0].shape[2] < kernel[1]:
            return None
        steps = np.broadcast_to(steps, (len(real), steps.shape[1])).reshape(groups, -1, steps.shape[1])
        real = real.reshape(groups, len(real) // groups, -1)
        return Rows(real, steps, windows(images, (kernel[0], kernel[1]), groups), limit)

    def replace(self, layer: Layer, integers: NDArray[np.int8]) -> None:
        node = self._quantized.nodes[layer.operator.name]
        weights = self._weights(node)
        assert weights is not None
        onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
        flat = integers[0].T if node.op_type in _MATRICES and _is_upright(node) else integers
        values = np.ascontiguousarray(flat.reshape(tuple(weights[0].dims)))
        weights[0].CopyFrom(onnx.numpy_helper.from_array(values, weights[0].name))

    def _grid(self, node: Any) -> tuple[Array, int] | None:
        """The steps of a layer's weights `[outputs, taps or 1]` and their largest integer; None where it is not rounded anew."""
        weights = self._weights(node)
        return None if weights is None else (onnx_graph.array(weights[1]).astype(np.float32).reshape(-1, 1), 127)

    def _weights(self, node: Any) -> tuple[Any, Any] | None:
        """The int8 weights of a plain layer that nothing else uses, and their steps."""
        source = self._quantized.producer.get(node.input[1])
        if source is None or source.op_type != "DequantizeLinear":
            return None
        integers, steps = (self._constants.get(name) for name in source.input[:2])
        if integers is None or steps is None or integers.data_type != _INT8:
            return None
        alone = sum(source.input[0] in other.input for other in self._quantized.nodes.values()) == 1
        fits = alone and is_plain(node, integers) and self._quantized.uses[node.input[1]] == 1
        return (integers, steps) if fits else None

    def shift(self, layer: Layer, change: Channels) -> None:
        biases = self._bias(self._quantized.nodes[layer.operator.name])
        assert biases is not None
        integers, steps = biases
        values = onnx_graph.array(integers)
        moved = np.rint(change / onnx_graph.array(steps).astype(np.float64))
        limits = np.iinfo(np.int32)
        values = np.clip(values + moved, limits.min, limits.max).astype(np.int32)
        onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
        integers.CopyFrom(onnx.numpy_helper.from_array(values, integers.name))
        self._quantized.add(layer.operator.name, change.astype(np.float32), CHANNELS[layer.operator.kind])

    def _layers(self, float_model: Any) -> Iterator[Layer]:
        weights = onnx_graph.weights(float_model)
        found = [
            node
            for node in float_model.graph.node
            if node.op_type in CHANNELS and node.name in self._quantized.nodes and weights.keys() & set(node.input)
        ]
        names = {node.name for node in found}
        sources = {output: (node.name, tuple(node.input)) for node in float_model.graph.node for output in node.output}
        for node in found:
            other = self._quantized.nodes[node.name]
            if self._is_rounded(other):
                after = nearest(node.input, sources, names)
                yield Layer(Operator(node.op_type, node.name), self._has_bias(other), after)

    def _is_rounded(self, node: Any) -> bool:
        return self._quantized.is_fed_by_integers(node)

    def _has_bias(self, node: Any) -> bool:
        return self._bias(node) is not None

    def _bias(self, node: Any) -> tuple[Any, Any] | None:
        """The int32 bias of a quantized node that nothing else uses, and its steps."""
        if len(node.input) <= _BIAS or not onnx_graph.adds_its_bias(node):
            return None
        source = self._quantized.producer.get(node.input[_BIAS])
        if source is None or source.op_type != "DequantizeLinear" or source.input[0] not in self._constants:
            return None
        integers, steps = (self._constants[name] for name in source.input[:2])
        alone = (
            self._quantized.uses[node.input[_BIAS]] == 1
            and sum(source.input[0] in other.input for other in self._quantized.nodes.values()) == 1
        )
        return (integers, steps) if alone and integers.data_type == _INT32 and len(integers.dims) == 1 else None


class Stages:
    """A model run up to one node after the other, for all samples; each of its nodes runs once.

    Tensors are kept as long as a node that has not run yet needs them.
    """

    def __init__(self, model: Any, names: Sequence[str], samples: Samples) -> None:
        self._model = model
        self.nodes = {node.name: node for node in model.graph.node}
        self.producer = {output: node for node in model.graph.node for output in node.output if output}
        self.uses: dict[str, int] = {}
        for node in model.graph.node:
            for name in _needed(node):
                self.uses[name] = self.uses.get(name, 0) + 1
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._waiting = dict(self.uses)
        self._ran: set[str] = set()
        self._held: dict[str, list[Array]] = {name: [] for name in names}
        for batch in samples.batches(1):
            for name, values in zip(names, batch, strict=True):
                self._held[name].append(values)

    def is_fed_by_integers(self, node: Any) -> bool:
        source = self.producer.get(node.input[0])
        return source is not None and source.op_type == "DequantizeLinear"

    def reach(self, name: str) -> list[Array]:
        """The first output of the node `name`, one array a sample. Nodes are asked for in the graph's order."""
        return self.tensor(self.nodes[name].output[0])

    def tensor(self, name: str) -> list[Array]:
        """A tensor that is computed or comes in, one array a sample."""
        if name not in self._held:
            self._run(self._missing(name), name)
        return self._held[name]

    def add(self, name: str, change: Array, axis: int) -> None:
        """Add `change`, one value a channel, to the output of the node `name`."""
        values = self._held[self.nodes[name].output[0]]
        shape = [1] * values[0].ndim
        shape[axis] = -1
        for place, array in enumerate(values):
            values[place] = array + change.reshape(shape)

    def _missing(self, target: str) -> list[Any]:
        """The nodes that have not run and that `target` needs, in the graph's order."""
        needed: set[str] = set()
        pending = [target]
        while pending:
            node = self.producer.get(pending.pop())
            if node is None or node.name in needed or node.name in self._ran:
                continue
            needed.add(node.name)
            pending.extend(_needed(node))
        return [node for node in self._model.graph.node if node.name in needed]

    def _run(self, nodes: list[Any], target: str) -> None:
        for node in nodes:
            self._ran.add(node.name)
            for name in _needed(node):
                self._waiting[name] -= 1
        made = {output for node in nodes for output in node.output if output}
        taken = {name for node in nodes for name in _needed(node)} - made
        fed = [name for name in self._held if name in taken]
        kept = [target, *sorted(name for name in made if name != target and self._waiting.get(name, 0) > 0)]
        session = open_session(self._stage(nodes, taken, fed, kept))
        results: list[list[Array]] = [[] for _ in kept]
        for sample in range(len(self._held[fed[0]])):
            outputs = session.run(kept, {name: self._held[name][sample] for name in fed})
            for held, output in zip(results, outputs, strict=True):
                held.append(output)
        self._held.update(zip(kept, results, strict=True))
        for name in [name for name in self._held if self._waiting.get(name, 0) == 0 and name != target]:
            del self._held[name]

    def _stage(self, nodes: list[Any], taken: set[str], fed: list[str], kept: list[str]) -> bytes:
        onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
        kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(self._held[name][0].dtype) for name in fed}
        graph = onnx.GraphProto(name="stage", node=nodes)
        graph.initializer.extend(self._constants[name] for name in sorted(taken & self._constants.keys()))
        graph.input.extend(onnx.helper.make_tensor_value_info(name, kinds[name], None) for name in fed)
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in kept)
        model = onnx.ModelProto(ir_version=self._model.ir_version, graph=graph)
        model.opset_import.extend(self._model.opset_import)
        data: bytes = model.SerializeToString()
        return data


def _attribute(node: Any, name: str, default: Any) -> Any:
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    return next((onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name), default)


def is_plain(node: Any, weights: Any) -> bool:
    """Whether a node is a convolution of one or two axes without dilation, or a product with one matrix and nothing else."""
    if node.op_type == "Conv":
        return len(weights.dims) in (3, 4) and all(step == 1 for step in _attribute(node, "dilations", ()))
    scaled = _attribute(node, "alpha", 1.0) != 1 or _attribute(node, "transA", 0)
    return node.op_type in _MATRICES and len(weights.dims) == 2 and not scaled


def _is_upright(node: Any) -> bool:
    """Whether a matrix of weights has its outputs along its second axis."""
    return not _attribute(node, "transB", 0)


def _needed(node: Any) -> list[str]:
    """The names that a node takes, those that its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            made = {output for inner in graph.node for output in inner.output}
            names.extend(name for inner in graph.node for name in _needed(inner) if name not in made)
    return names
