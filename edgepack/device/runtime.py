"""Runtimes that are ready on this board, whoever provides them, and whether a version is one that was asked for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import List, NamedTuple, Optional, Tuple

from . import store
from .faults import Fault

MODULES = {
    "litert": ("ai_edge_litert.interpreter", "ai-edge-litert"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "tflite-runtime": ("tflite_runtime.interpreter", "tflite-runtime"),
}
_PROBE = """
import importlib, json, sys
importlib.import_module(sys.argv[1])
import numpy
from importlib import metadata
try:
    version = metadata.version(sys.argv[2])
except metadata.PackageNotFoundError:
    version = getattr(sys.modules[sys.argv[1].partition(".")[0]], "__version__", "0")
print(json.dumps(version))
"""


class Runtime(NamedTuple):
    """python: the interpreter that imports it; key: a lock's digest, or `system:RUNTIME`"""

    runtime: str
    version: str
    key: str
    provider: str
    python: str


class Imported(NamedTuple):
    """What an import in a fresh interpreter came to. version: empty when it failed, and then `reason` says why."""

    version: str
    reason: str = ""


def find(root: str, key: str) -> Optional[Runtime]:
    """A runtime that is ready, or None."""
    folder = store.runtime_folder(root, key)
    note = store.read_json(os.path.join(folder, "runtime.json"))
    if note is None:
        return None
    python = note["python"] if note["provider"] == "system" else os.path.join(folder, note["python"])
    if not os.path.exists(python):  # the system's Python was removed or replaced by another version
        return None
    return Runtime(note["runtime"], note["version"], note["key"], note["provider"], python)


def require(root: str, key: str) -> Runtime:
    """A runtime that is ready. Raises Fault otherwise."""
    found = find(root, key)
    if found is None:
        raise Fault(
            "board",
            f"the runtime {key} is not on the board, or the Python it was built for is gone",
            expected=store.runtime_folder(root, key),
            advice="push the bundle again",
        )
    return found


def ready(root: str) -> List[str]:
    """The keys of all runtimes that are ready."""
    keys = []
    for name in store.names_in(os.path.join(root, "runtimes")):
        key = name.replace("system-", "system:", 1) if name.startswith("system-") else "sha256:" + name
        if find(root, key) is not None:
            keys.append(key)
    return keys


def imported(python: str, runtime: str, seconds: float) -> Imported:
    """Import a runtime, and numpy, in a fresh interpreter."""
    module, package = MODULES[runtime]
    try:
        done = subprocess.run(
            [python, "-I", "-c", _PROBE, module, package],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return Imported("", f"no end within {seconds:.0f} s")
    if done.returncode < 0:
        return Imported("", f"died of signal {-done.returncode}")
    if done.returncode:
        return Imported("", (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["failed"])[-1][:300])
    return Imported(str(json.loads(done.stdout.strip().splitlines()[-1])))


def system() -> List[Tuple[str, str]]:
    """The runtimes that the board's own Python imports, with their versions."""
    found = [(name, imported(sys.executable, name, 60.0).version) for name in MODULES]
    return [(name, version) for name, version in found if version]


def allowed(version: str, wanted: str) -> bool:
    """Whether a version lies in a range like `>=2.1,<3`: numbers compared part by part, what follows them ignored."""
    return all(_holds(version, clause.strip()) for clause in wanted.split(",") if clause.strip())


def _holds(version: str, clause: str) -> bool:
    found = re.fullmatch(r"(>=|<=|==|!=|>|<|~=)\s*([0-9.]+)(\.\*)?", clause)
    if not found:
        raise Fault("input", f"{clause!r} is no version range", expected="for example '>=2.1,<3'")
    sign, mine, theirs = found.group(1), _numbers(version), _numbers(found.group(2))
    width = max(len(mine), len(theirs))
    a, b = mine + (0,) * (width - len(mine)), theirs + (0,) * (width - len(theirs))
    if found.group(3):
        a, b = mine[: len(theirs)], theirs
    if sign == "~=":
        return a >= b and mine[: len(theirs) - 1] == theirs[:-1]
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b}[sign]


def _numbers(version: str) -> Tuple[int, ...]:
    leading = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in leading.group().split(".")) if leading else ()
