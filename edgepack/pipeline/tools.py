"""The packages that decide what a step produces."""

from __future__ import annotations

import functools
from importlib import metadata

_TOOLS = (
    "ai-edge-litert",
    "ai-edge-quantizer",
    "litert-torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "onnxslim",
)
_FRAMEWORKS = ("tensorflow-cpu", "tf2onnx", "torch", "torch-pruning")


@functools.cache
def tools() -> tuple[tuple[str, str], ...]:
    """Their names with their versions, as far as they are installed."""
    found = ((name, _version(name)) for name in sorted((*_TOOLS, *_FRAMEWORKS)))
    return tuple((name, version) for name, version in found if version)


def _version(name: str) -> str:
    """Of an installed package; empty where it is not."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
