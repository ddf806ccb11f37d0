"""Models that are already files for a board's runtime: ONNX and TFLite, asked in their own runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edgepack import digest, runtimes
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Format, Model, Signature
from edgepack.ports import Loaded, OnnxNative, TfliteNative
from edgepack.runtimes import Opened, foreign
from edgepack.sources import asking
from edgepack.sources.signatures import Specs, clean_names, settle

_QUANTIZED_OPERATORS = frozenset(
    {
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"),
        *("QLinearConv", "QLinearMatMul", "QGemm", "QAttention", "DynamicQuantizeMatMul", "MatMulNBits"),
    }
)


def from_onnx(source: str, path: Path, declared: Specs) -> Loaded:
    """An ONNX file, with the external data that lies beside it."""
    onnx = foreign.import_framework("onnx", "onnx", "reading an ONNX model")
    with foreign.reading(f"{source} is not a readable ONNX model", advice="copy or export it again"):
        proto = onnx.load(path, load_external_data=False)
    if not proto.graph.node or not proto.graph.output:
        raise InputError(f"{source} is not an ONNX model: its graph is empty", advice="copy or export it again")
    identity = _onnx_digest(onnx, source, path, proto)
    opened = runtimes.open_session(path, "onnx")
    quantized = any(node.op_type in _QUANTIZED_OPERATORS for node in _nodes(proto.graph))
    return _load(source, OnnxNative(path), identity, opened, declared, quantized)


def from_tflite(source: str, path: Path, declared: Specs) -> Loaded:
    """A TFLite file. One whose inputs are stored as integers with a scale shows, takes and gives real values."""
    opened = runtimes.open_session(path, "tflite")
    return _load(source, TfliteNative(path), digest.of_file(path), opened, declared, _stores_integers(path))


def _load(
    source: str,
    native: OnnxNative | TfliteNative,
    identity: Digest,
    opened: Opened,
    declared: Specs,
    quantized: bool,
) -> Loaded:
    inputs = settle(source, _cleaned(opened.inputs), declared)
    names = [spec.name for spec in _cleaned(opened.outputs)]
    with foreign.reading(f"{source} fails on its inputs ({', '.join(map(str, inputs))})"):
        outputs = asking.describe(names, opened.run(asking.zeros(inputs)))
    onnx = isinstance(native, OnnxNative)
    model = Model(
        source=source,
        format=Format.ONNX if onnx else Format.TFLITE,
        digest=identity,
        signature=Signature(inputs, outputs),
        frameworks=foreign.versions(*(("onnx", "onnxruntime") if onnx else ("ai-edge-litert",))),
        quantized=quantized,
    )
    return Loaded(model, native, asking.checked(source, inputs, names, opened.run))


def _cleaned(specs: Specs) -> Specs:
    names = clean_names([spec.name for spec in specs])
    return tuple(replace(spec, name=name) for spec, name in zip(specs, names, strict=True))


def _nodes(graph: Any) -> list[Any]:
    """All nodes of a graph and of the graphs inside it (If, Loop, Scan)."""
    found = list(graph.node)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found.extend(_nodes(inner))
    return found


def _onnx_digest(onnx: Any, source: str, path: Path, proto: Any) -> Digest:
    """Of the file, and of the files with external data that it names."""
    helper = onnx.external_data_helper
    locations = set()
    for tensor in helper._get_all_tensors(proto):
        if helper.uses_external_data(tensor):
            locations.add(helper.ExternalDataInfo(tensor).location)
    if not locations:
        return digest.of_file(path)
    for location in sorted(locations):
        if not (path.parent / location).is_file():
            raise InputError(
                f"{source} keeps weights in {location}, which is missing",
                expected=str(path.parent / location),
                advice="copy it beside the model, or export with external_data=False",
            )
    return digest.of_value(
        [digest.of_file(path), *([name, digest.of_file(path.parent / name)] for name in sorted(locations))]
    )


def _stores_integers(path: Path) -> bool:
    """Whether any tensor of a TFLite file is stored as integers with a scale."""
    module = foreign.import_framework("ai_edge_litert.interpreter", "tflite", "reading a TFLite model")
    with foreign.reading(f"{path.name} is not a readable TFLite model"):
        details = module.Interpreter(model_path=str(path)).get_tensor_details()
    return any(len(d["quantization_parameters"]["scales"]) and d["dtype"].__name__ != "int32" for d in details)
