"""What an older runtime on the board cannot read, or reads wrongly, though the newer one on this machine runs it well.

Which version of each operator such a runtime has is data (`profiles/operators/`), found by offering it every version of every
operator. Not all shows in versions: quantizers do not raise them for everything that they rely on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgepack.home import shipped
from edgepack.lock import version_tuple
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.runtimes import foreign

_FLOAT32, _INT8, _INT4 = 0, 9, 17


@dataclass(frozen=True)
class OnnxCeiling:
    """The newest operator set and form of file (IR) that a version of onnxruntime reads: its docs/Versioning.md"""

    version: str
    opset: int
    ir: int


ONNX_CEILINGS = (
    OnnxCeiling("1.14", 18, 8),
    OnnxCeiling("1.15", 19, 9),
    OnnxCeiling("1.16", 19, 9),
    OnnxCeiling("1.17", 20, 9),
    OnnxCeiling("1.18", 21, 10),
    OnnxCeiling("1.19", 21, 10),
    OnnxCeiling("1.20", 21, 10),
    OnnxCeiling("1.21", 22, 10),
    OnnxCeiling("1.22", 22, 10),
    OnnxCeiling("1.23", 23, 11),
)
"""Oldest first; what is newer than the last reads at least as much."""

_CONTRIBUTED = {"MatMulNBits": "1.17", "DynamicQuantizeLSTM": "1.8", "FusedConv": "1.0", "QGemm": "1.11", "Gelu": "1.0"}
"""Operators of onnxruntime's own that a quantizer may write, and its first version with them."""


class Operators(Struct, frozen=True, forbid_unknown_fields=True):
    """operators: the highest version of each that this runtime reads; those that it lacks are not named"""

    schema: str
    runtime: RuntimeName
    version: str
    operators: dict[str, int]


def refusal(model: Path, runtime: RuntimeName, wanted: RuntimeRange) -> str:
    """Why the oldest version of `runtime` that a board may have cannot run this file; empty where it can.

    Raises UsageError where the extra that reads such files is missing.
    """
    return _refused_onnx(model, wanted) if runtime == "onnxruntime" else _refused_tflite(model, runtime, wanted)


def oldest_onnx(wanted: RuntimeRange) -> OnnxCeiling:
    """What the oldest onnxruntime of a range reads. A range beyond all that is known is taken for the newest known."""
    allowed = (each for each in ONNX_CEILINGS if _may_be(wanted, each.version))
    return next(allowed, ONNX_CEILINGS[-1])


def _may_be(wanted: RuntimeRange, minor: str) -> bool:
    """Whether a range allows any release of MAJOR.MINOR."""
    return any(wanted.allows(f"{minor}.{patch}") for patch in range(4))


def _refused_onnx(model: Path, wanted: RuntimeRange) -> str:
    onnx = foreign.import_framework("onnx", "onnx", "reading an ONNX model")
    loaded = onnx.load(str(model), load_external_data=False)
    known = oldest_onnx(wanted)
    title = f"onnxruntime {known.version}"
    opset = max((each.version for each in loaded.opset_import if each.domain in ("", "ai.onnx")), default=1)
    if opset > known.opset:
        return f"it needs opset {opset}, {title} has {known.opset} at most"
    if loaded.ir_version > known.ir:
        return f"it is an ONNX file of IR version {loaded.ir_version}, {title} reads {known.ir} at most"
    for node in loaded.graph.node:
        first = _CONTRIBUTED.get(node.op_type)
        if node.domain == "com.microsoft" and first and version_tuple(known.version) < version_tuple(first):
            return f"it needs {node.op_type}, which onnxruntime has from {first} on; a board may have {known.version}"
    return ""


def _refused_tflite(model: Path, runtime: RuntimeName, wanted: RuntimeRange) -> str:
    known = [one for one in tables() if one.runtime == runtime and wanted.allows(one.version)]
    if not known:
        return ""
    oldest = min(known, key=lambda one: version_tuple(one.version))
    schema = foreign.import_framework("ai_edge_litert.schema_py_generated", "tflite", "reading a TFLite model")
    return _judge(schema, schema.ModelT.InitFromPackedBuf(bytearray(model.read_bytes()), 0), oldest)


@cache
def tables() -> tuple[Operators, ...]:
    """The runtimes whose operators are known."""
    paths = sorted((shipped("profiles") / "operators").glob("*.json"))
    return tuple(msgspec.json.decode(path.read_bytes(), type=Operators) for path in paths)


def _judge(schema: Any, model: Any, known: Operators) -> str:
    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    title = f"{known.runtime} {known.version}"
    for graph in model.subgraphs:
        if known.runtime == "tflite-runtime" and any(tensor.type == _INT4 for tensor in graph.tensors):
            return f"its weights have 4 bits, which {title} cannot unpack (it ends in an error or a crash)"
        for operator in graph.operators:
            used = model.operatorCodes[operator.opcodeIndex]
            name = names.get(max(used.builtinCode, used.deprecatedBuiltinCode), "an unknown operator")
            if name == "CUSTOM":
                continue
            highest = known.operators.get(name, 0)
            if used.version > highest:
                has = f"version {highest} at most" if highest else "none"
                return f"it needs {name} in version {used.version}, {title} has {has}"
            if name == "FULLY_CONNECTED" and _is_dynamic_by_channel(graph, operator):
                return (
                    f"{title} answers wrongly: where a {name} takes float values and 8-bit weights that have a scale for each "
                    "channel, it uses the first scale for all"
                )
    return ""


def _is_dynamic_by_channel(graph: Any, operator: Any) -> bool:
    given, weights = (graph.tensors[index] for index in list(operator.inputs)[:2])
    scales = weights.quantization.scale if weights.quantization is not None else None
    return bool(given.type == _FLOAT32 and weights.type == _INT8 and scales is not None and len(scales) > 1)
