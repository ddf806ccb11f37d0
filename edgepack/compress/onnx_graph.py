"""An ONNX file as its operators: which are quantized already, which stayed in float, which hold weights, along which axis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepack.compress.operators import Operator
from edgepack.runtimes import foreign

LEAST_OPSET = 13
"""Quantization along an axis came with opset 13."""
GREATEST_OPSET = 21
"""The newest that is written; what the profile's oldest runtime reads is asked of the finished file (runtimes.ceiling)."""

_FLOAT, _UINT8, _INT8, _FLOAT16 = 1, 2, 3, 10
_MOVES = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_INTEGER = {
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeLSTM",
    "MatMulNBits",
    "QAttention",
    "QGemm",
    "MatMulIntegerToFloat",
}
_TAIL = 12
"""Operators after a layer that are taken for the end of a graph."""
_WEIGHTED = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "MatMul": (0, 1),
    "Gemm": (0, 1),
    "LSTM": (1, 2),
    "GRU": (1, 2),
    "RNN": (1, 2),
    "Gather": (0,),
}
"""Operators whose weights are worth storing small, and at which inputs those are."""


def load(path: Path) -> Any:
    """The file's ModelProto at an opset that can be quantized and that boards open.

    Raises InputError for a broken file, InexpressibleError where the opset cannot be changed.
    """
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    with foreign.reading(path.name, expected="a whole ONNX file"):
        model = onnx.load(str(path))
    opset = opset_of(model)
    wanted = min(max(opset, LEAST_OPSET), GREATEST_OPSET)
    if opset != wanted:
        converter = foreign.import_framework("onnx.version_converter", "onnx", "quantizing ONNX")
        with foreign.converting(
            f"{path.name}: its opset {opset} cannot be changed to {wanted}", advice="export it anew"
        ):
            model = converter.convert_version(model, wanted)
    return model


def opset_of(model: Any) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def already_quantized(model: Any) -> str:
    """What shows that a model is quantized already, in words; empty when it computes and stores its weights in float."""
    for node in model.graph.node:
        if node.op_type in _MOVES | _INTEGER or node.op_type.startswith("QLinear"):
            return f"it holds {node.op_type} operators"
    bytes_stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type in (_UINT8, _INT8)}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in bytes_stored:
            return f"its weights {node.input[0]} are stored as bytes"
    if any(tensor.data_type == _FLOAT16 for tensor in model.graph.initializer):
        return "its weights are float16"
    return ""


def name_nodes(model: Any) -> None:
    """Give every node a name of its own, from its first output, so that it can be named in a report and excluded."""
    taken = {node.name for node in model.graph.node}
    for node in model.graph.node:
        if not node.name:
            name = f"{node.op_type}_{node.output[0]}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)


def final_softmaxes(model: Any) -> tuple[str, ...]:
    """The names of the Softmax nodes whose answer leaves the graph, directly or reshaped."""
    producer = {output: node for node in model.graph.node for output in node.output}
    found = []
    for output in model.graph.output:
        node = producer.get(output.name)
        while node is not None and node.op_type in ("Reshape", "Identity", "Squeeze", "Flatten"):
            node = producer.get(node.input[0])
        if node is not None and node.op_type == "Softmax":
            found.append(node.name)
    return tuple(found)


def add_biases(model: Any) -> None:
    """Give each Conv, ConvTranspose and Gemm without a bias one of zeros, so that it can be corrected."""
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(node.input) != 2 or not node.name:
            continue
        if node.input[1] in constants and constants[node.input[1]].data_type == _FLOAT:
            count = _outputs(node, constants[node.input[1]].dims)
            name = f"{node.name}_bias"
            model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(count, np.float32), name))
            node.input.append(name)


def adds_its_bias(node: Any) -> bool:
    """Whether a layer adds its bias as it is."""
    return not any(attribute.name == "beta" and attribute.f != 1 for attribute in node.attribute)


def last_operators(model: Any, output: int) -> tuple[str, ...]:
    """The last layer before an output of the graph, and the operators between; empty where they are many or lead nowhere."""
    producer = {name: node for node in model.graph.node for name in node.output}
    holding_weights = {operator.name for operator in holding(model, set(weights(model)))}
    layer, found, pending = "", dict[str, None](), [model.graph.output[output].name]
    while pending and len(found) <= _TAIL:
        node = producer.get(pending.pop(0))
        if node is None or node.name in found:
            continue
        if node.name in holding_weights:
            layer = layer or node.name
            continue
        found[node.name] = None
        pending.extend(node.input)
    return (layer, *found) if layer and len(found) <= _TAIL else ()


def with_activation(model: Any, name: str) -> tuple[str, ...]:
    """A node and the Relu or Clip that alone takes what it gives: a runtime fuses the two."""
    node = next(node for node in model.graph.node if node.name == name)
    takers = [other for other in model.graph.node if node.output[0] in other.input]
    return (name, *(other.name for other in takers if len(takers) == 1 and other.op_type in ("Relu", "Clip")))


def weights(model: Any) -> dict[str, tuple[int, ...]]:
    """The float32 matrices that operators hold as weights: their names, and the axes of their output channels."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer if is_matrix(tensor)}
    found: dict[str, tuple[int, ...]] = {}
    for node in model.graph.node:
        for place in _WEIGHTED.get(node.op_type, ()):
            if place < len(node.input) and node.input[place] in constants:
                found.setdefault(node.input[place], _channel_axes(node, place, len(constants[node.input[place]].dims)))
    return found


def recurrent_biases(model: Any) -> set[str]:
    """The tensors that LSTM, GRU and RNN take as biases, `[directions, 2 × gates × hidden]`."""
    recurrent = [node for node in model.graph.node if node.op_type in ("LSTM", "GRU", "RNN")]
    return {node.input[3] for node in recurrent if len(node.input) > 3 and node.input[3]}


def flatten_biases(model: Any) -> None:
    """Give each constant bias of a Gemm one value an output: onnxruntime's quantizer takes no row and no single value."""
    import onnx

    axes = weights(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Gemm" or len(node.input) < 3 or node.input[1] not in axes or node.input[2] not in constants:
            continue
        matrix, bias = constants[node.input[1]], constants[node.input[2]]
        outputs = matrix.dims[axes[matrix.name][0]]
        by_output = list(bias.dims) in ([1, outputs], [1, 1], [1], [])
        if not by_output or list(bias.dims) == [outputs]:
            continue
        node.input[2] = f"{node.name}_bias"
        flat = np.broadcast_to(array(bias).reshape(-1), outputs)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(flat), node.input[2]))


def is_matrix(tensor: Any) -> bool:
    """Whether an initializer is float32 of two axes or more."""
    return bool(tensor.data_type == _FLOAT and len(tensor.dims) >= 2)


def holding(model: Any, names: set[str]) -> tuple[Operator, ...]:
    """The operators that take one of the tensors `names` as their weights."""
    return tuple(
        Operator(node.op_type, node.name)
        for node in model.graph.node
        if any(place < len(node.input) and node.input[place] in names for place in _WEIGHTED.get(node.op_type, ()))
    )


def widened(model: Any) -> set[str]:
    """The tensors that are constants of fewer bits, widened to float by nodes that a runtime folds when it loads the file."""
    constants = {tensor.name for tensor in model.graph.initializer}
    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in _MOVES and node.input and (constants | found).issuperset(node.input):
            found.update(node.output)
    return found


def computing(model: Any) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """Operators between DequantizeLinear and QuantizeLinear, which a runtime runs on integers, and those that stay in float."""
    producer = {output: node.op_type for node in model.graph.node for output in node.output}
    consumers: dict[str, set[str]] = {output.name: {"output"} for output in model.graph.output}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, set()).add(node.op_type)
    kinds = _element_types(model)
    constant = widened(model)
    integer, floating = [], []
    for node in model.graph.node:
        if node.op_type in _MOVES or node.op_type == "Constant" or constant.issuperset(node.output):
            continue
        fed = bool(node.input) and producer.get(node.input[0]) == "DequantizeLinear"
        if fed and all(consumers.get(name) == {"QuantizeLinear"} for name in node.output if name):
            integer.append(Operator(node.op_type, node.name))
        elif any(kinds.get(name) == _FLOAT for name in node.output):
            floating.append(Operator(node.op_type, node.name))
    return tuple(integer), tuple(floating)


def clean(model: Any) -> None:
    """Drop what would differ from one machine to the next and what boards do not need, and set the oldest fitting IR version.

    Exporters note the stack trace of every node, with the paths of the machine that exported it.
    """
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used | {"", "ai.onnx"}]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import, ignore_unknown=True)
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for item in (*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        item.doc_string = ""
        del item.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""


def array(tensor: Any) -> Any:
    """A copy of an initializer's values that may be written to."""
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    return np.array(onnx.numpy_helper.to_array(tensor))


def _outputs(node: Any, dims: Any) -> int:
    """How many channels a layer without a bias gives."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    match node.op_type:
        case "Conv":
            return int(dims[0])
        case "ConvTranspose":
            return int(dims[1]) * int(attributes.get("group", 1))
        case _:
            return int(dims[0] if attributes.get("transB", 0) else dims[1])


def _channel_axes(node: Any, place: int, rank: int) -> tuple[int, ...]:
    match node.op_type:
        case "Conv" | "Gather":
            return (0,)
        case "Gemm":
            transposed = any(
                attribute.name == ("transA", "transB")[place] and attribute.i for attribute in node.attribute
            )
            return (int(transposed != (place == 1)),)
        case "MatMul":
            return (rank - 2 if place == 0 else rank - 1,)
        case "ConvTranspose":
            return (1,)
        case _:
            return (0, 1)  # LSTM, GRU, RNN: [directions, gates × hidden, …]


def _element_types(model: Any) -> dict[str, int]:
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    inferred = onnx.shape_inference.infer_shapes(model)
    infos = (*inferred.graph.value_info, *inferred.graph.output)
    return {info.name: info.type.tensor_type.elem_type for info in infos}
