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
WRAPPER = "edgepack"
_WRAPPER = re.compile(rb"(^|;)" + WRAPPER.encode() + rb"(?:_\d+)*/")


def canonical(data: bytes, signature: Signature) -> bytes:
    """The model with the signature's names and order of inputs and outputs, without the converter's own metadata.

    Whose names tell the order (`args_0`, `output_1`) is put in that order; others are taken in the file's.
    """
    schema = _schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    graph = model.subgraphs[0]
    definition = _definition(schema, model)
    graph.inputs = _ordered(graph.inputs, definition.inputs)
    graph.outputs = _ordered(graph.outputs, definition.outputs)
    for tensor in graph.tensors:
        tensor.name = _WRAPPER.sub(rb"\1", tensor.name)
    definition.inputs = _rename(schema, graph, graph.inputs, signature.inputs)
    definition.outputs = _rename(schema, graph, graph.outputs, signature.outputs)
    model.metadata = [entry for entry in model.metadata or () if entry.name in _KEPT_METADATA]
    return pack(model)


def pack(model: Any) -> bytes:
    """The bytes of a `ModelT`. Raises InexpressibleError above the 2 GiB that a flatbuffer can address."""
    flatbuffers = foreign.import_framework("flatbuffers", "tflite", "writing a TFLite model")

    class Aligned(flatbuffers.Builder):
        def CreateNumpyVector(self, x: Any) -> int:
            if x.dtype.itemsize != 1 or not x.size:
                return int(super().CreateNumpyVector(x))
            self.StartVector(1, x.size, _ALIGNMENT)
            self.head -= x.size
            self.Bytes[self.head : self.head + x.size] = x.tobytes()
            return int(self.EndVector())

    size = sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None)
    if size > _LARGEST - (1 << 24):
        raise InexpressibleError(f"the weights take {size >> 20} MiB, a TFLite file holds at most 2 GiB")
    builder = Aligned(size + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _schema() -> Any:
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
        if found := re.fullmatch(rb"(?:args|output)_(\d+)", entry.name):
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
