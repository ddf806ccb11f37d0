"""What an older runtime on the board cannot read, or reads wrongly, though the newer one on this machine runs it well.

Which version of each operator such a runtime has is data (`profiles/operators/`), found by offering it every version of every
operator. Not all shows in versions: quantizers do not raise them for everything that they rely on.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgepack.home import shipped
from edgepack.lock import version_tuple
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.runtimes import foreign

_FLOAT32, _INT8 = 0, 9


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
