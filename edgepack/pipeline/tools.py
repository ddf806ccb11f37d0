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
    installed = {found.name.lower(): found.version for found in metadata.distributions()}
    return tuple((name, installed[name]) for name in sorted((*_TOOLS, *_FRAMEWORKS)) if name in installed)
