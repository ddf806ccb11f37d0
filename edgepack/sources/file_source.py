"""Models that are already files for a board's runtime: ONNX and TFLite, asked in their own runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from edgepack import digest, runtimes
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Format, Model, Signature
from edgepack.names import Precision
from edgepack.ports import Loaded, OnnxNative, TfliteNative
from edgepack.runtimes import Opened, foreign
from edgepack.sources import asking
from edgepack.sources.signatures import Specs, clean_names, settle

_STATIC = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "QGemm"})
_DYNAMIC = frozenset({"DynamicQuantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "QAttention"})
_WEIGHTS_ONLY = frozenset({"DequantizeLinear", "MatMulNBits"})


def from_onnx(source: str, path: Path, declared: Specs) -> Loaded:
    """An ONNX file, with the external data that lies beside it."""
    onnx = foreign.import_framework("onnx", "onnx", "reading an ONNX model")
    with foreign.reading(f"{source} is not a readable ONNX model", advice="copy or export it again"):
        proto = onnx.load(path, load_external_data=False)
    if not proto.graph.node or not proto.graph.output:
        raise InputError(f"{source} is not an ONNX model: its graph is empty", advice="copy or export it again")
    identity = _onnx_digest(onnx, source, path, proto)
    opened = runtimes.open_session(path, "onnx")
    precision = _onnx_precision({node.op_type for node in _nodes(proto.graph)})
    return _load(source, OnnxNative(path), identity, opened, declared, precision)


def from_tflite(source: str, path: Path, declared: Specs) -> Loaded:
    """A TFLite file. One whose inputs are stored as integers with a scale shows, takes and gives real values."""
    opened = runtimes.open_session(path, "tflite")
    return _load(source, TfliteNative(path), digest.of_file(path), opened, declared, _tflite_precision(path))


def _load(
    source: str,
    native: OnnxNative | TfliteNative,
    identity: Digest,
    opened: Opened,
    declared: Specs,
    precision: Precision,
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
        precision=precision,
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


def _onnx_precision(operators: set[str]) -> Precision:
    """What a graph with these operators computes in."""
    kinds: tuple[tuple[frozenset[str], Precision], ...] = ((_STATIC, "w8a8"), (_DYNAMIC, "w8d"), (_WEIGHTS_ONLY, "w8"))
    return next((precision for found, precision in kinds if operators & found), "fp32")


def _tflite_precision(path: Path) -> Precision:
    """`w8a8` where an operator writes integers with a scale, `w8d` or `fp16` where only weights are stored so, else `fp32`."""
    module = foreign.import_framework("ai_edge_litert.interpreter", "tflite", "reading a TFLite model")
    with foreign.reading(f"{path.name} is not a readable TFLite model"):
        interpreter = module.Interpreter(model_path=str(path))
        tensors, operators = interpreter.get_tensor_details(), interpreter._get_ops_details()
    scaled = {
        d["index"] for d in tensors if len(d["quantization_parameters"]["scales"]) and d["dtype"].__name__ != "int32"
    }
    written = {index for operator in operators for index in operator["outputs"]}
    if scaled & written:
        return "w8a8"
    if scaled:
        return "w8d"
    return "fp16" if any(d["dtype"].__name__ == "float16" for d in tensors) else "fp32"
