"""TFLite files in one form: the source's names, the source's order, nothing that changes from one run to the next.

Read and written through the schema's own object API (`ai_edge_litert.schema_py_generated`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edgepack.errors import InexpressibleError
from edgepack.model import Signature, TensorSpec
from edgepack.runtimes import foreign

_LARGEST = (1 << 31) - 1
_ALIGNMENT = 16
"""`force_align` of Buffer.data in the schema, which the object API forgets; kernels read weights in vectors of that size."""

_KEPT_METADATA = (b"min_runtime_version", b"keep_stablehlo_constant")
_INTO, _OUT_OF = True, False
WRAPPER = "edgepack"
"""What edgepack puts around a user's model starts with this: it must not show in the names of tensors."""

_WRAPPER = re.compile(rb"(^|;)" + WRAPPER.encode() + rb"[^/;]*(?:/|(?=;)|$)")
_PACKAGE = re.compile(rb"(^|[;/])(?:[A-Za-z_<][\w<>]*\.)+(?=[A-Za-z_])")
"""`torch.nn.modules.linear.Linear_f` is `Linear_f`: a small net's tensor names can outweigh its weights."""


def canonical(data: bytes, signature: Signature) -> bytes:
    """The model with the signature's names and order of inputs and outputs, without the converter's own metadata.

    Whose names tell the order (`args_0`, `input_0`, `output_1`) is put in that order; others are taken in the file's.
    """
    schema = load_schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph = model.subgraphs[0]
    definition = _definition(schema, model)
    graph.inputs = _ordered(graph.inputs, definition.inputs)
    graph.outputs = _ordered(graph.outputs, definition.outputs)
    graph.inputs = [
        _as_declared(schema, model, i, s, _INTO) for i, s in zip(graph.inputs, signature.inputs, strict=True)
    ]
    graph.outputs = [
        _as_declared(schema, model, i, s, _OUT_OF) for i, s in zip(graph.outputs, signature.outputs, strict=True)
    ]
    definition.inputs = _rename(schema, graph, graph.inputs, signature.inputs)
    definition.outputs = _rename(schema, graph, graph.outputs, signature.outputs)
    _name_inner(graph, {*graph.inputs, *graph.outputs})
    model.metadata = [entry for entry in model.metadata or () if entry.name in _KEPT_METADATA]
    return pack(model)


def with_fixed_inputs(data: bytes, signature: Signature) -> bytes:
    """The model with the signature's sizes where its inputs leave one open; the very same bytes where none does."""
    schema = load_schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph = model.subgraphs[0]
    opened = [i for i in graph.inputs if any(n < 0 for n in _sizes(graph.tensors[i].shapeSignature))]
    if not opened:
        return data
    for index, spec in zip(graph.inputs, signature.inputs, strict=True):
        graph.tensors[index].shape = [size or 1 for size in spec.shape]
    for tensor in graph.tensors:
        tensor.shapeSignature = None
    return pack(model)


def pack(model: Any) -> bytes:
    """The bytes of a `ModelT`. Raises InexpressibleError above the 2 GiB that a flatbuffer can address."""
    flatbuffers = foreign.import_framework("flatbuffers", "tflite", "writing a TFLite model")

    def aligned(builder: Any, x: Any) -> Any:
        if x.dtype.itemsize != 1 or not x.size:
            return flatbuffers.Builder.CreateNumpyVector(builder, x)
        builder.StartVector(1, x.size, _ALIGNMENT)
        builder.head -= x.size
        builder.Bytes[builder.head : builder.head + x.size] = x.tobytes()
        return builder.EndVector()

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    if size > _LARGEST - (1 << 24):
        raise InexpressibleError(f"the weights take {size >> 20} MiB, a TFLite file holds at most 2 GiB")
    builder = type("Aligned", (flatbuffers.Builder,), {"CreateNumpyVector": aligned})(size + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _sizes(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]


def load_schema() -> Any:
    """The module of the TFLite schema's object API."""
    return foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "writing a TFLite model")


def _definition(schema: Any, model: Any) -> Any:
    """The signature `serving_default` of the main graph, made where there is none; other signatures are dropped."""
    found = [definition for definition in model.signatureDefs or () if definition.subgraphIndex == 0]
    definition = found[0] if found else schema.SignatureDefT()
    definition.signatureKey, definition.subgraphIndex = b"serving_default", 0
    model.signatureDefs = [definition]
    return definition


def _ordered(indices: Sequence[int], named: Sequence[Any] | None) -> list[int]:
    """Tensor indices in the order of the numbers in their signature names, if all names are numbered alike."""
    indices = [int(index) for index in indices]
    numbers = {}
    for entry in named or ():
        if found := re.fullmatch(rb"(?:args|input|output)_(\d+)", entry.name):
            numbers[int(entry.tensorIndex)] = int(found[1])
    if set(numbers) != set(indices) or len(set(numbers.values())) != len(indices):
        return indices
    return sorted(indices, key=lambda index: numbers[index])


def _rename(schema: Any, graph: Any, indices: Sequence[int], specs: tuple[TensorSpec, ...]) -> list[Any]:
    maps = []
    for index, spec in zip(indices, specs, strict=True):
        graph.tensors[index].name = spec.name.encode()
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = spec.name.encode(), index
        maps.append(entry)
    return maps


def _name_inner(graph: Any, border: set[int]) -> None:
    """Unique names, which tools take for keys, for all tensors but inputs and outputs."""
    taken = {graph.tensors[index].name for index in border}
    for index, tensor in enumerate(graph.tensors):
        if index in border:
            continue
        name = _PACKAGE.sub(rb"\1", _WRAPPER.sub(rb"\1", tensor.name)).strip(b";")
        tensor.name = name if name and name not in taken else b"%s#%d" % (name, index)
        taken.add(tensor.name)


def _as_declared(schema: Any, model: Any, index: int, spec: TensorSpec, into: bool) -> int:
    """The tensor of an input or output in the source's integer dtype.

    Converters narrow int64 to int32; a CAST at the border keeps what the source promised its callers.
    """
    graph = model.subgraphs[0]
    own, wanted = graph.tensors[index].type, getattr(schema.TensorType, spec.dtype.upper(), None)
    if own == wanted or not {own, wanted} <= {schema.TensorType.INT32, schema.TensorType.INT64}:
        return index
    border = schema.TensorT()
    border.type, border.buffer = wanted, 0
    border.shape, border.shapeSignature = graph.tensors[index].shape, graph.tensors[index].shapeSignature
    border.name = b""
    graph.tensors.append(border)
    new = len(graph.tensors) - 1
    cast = schema.OperatorT()
    cast.opcodeIndex = operator_code(schema, model, schema.BuiltinOperator.CAST)
    cast.inputs, cast.outputs = ([new], [index]) if into else ([index], [new])
    graph.operators.insert(0 if into else len(graph.operators), cast)
    return new


def operator_code(schema: Any, model: Any, operator: int) -> int:
    for i, code in enumerate(model.operatorCodes):
        if code.builtinCode == operator:
            return i
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = operator, min(operator, 127), 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
