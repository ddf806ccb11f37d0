"""ONNX graphs as torch modules: constants and shapes folded, one small function an operator.

The tables under `operators/` are torch expressions from end to end, so they import torch at the top: this room is imported
inside functions only, as a framework is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.model import Signature


def to_module(path: Path, signature: Signature) -> Any:
    """The ONNX model at `path` as an `nn.Module` in eval mode, ready for torch.export with static shapes and for training.

    It takes the signature's inputs positionally (shapes and dtypes as there, a batch left open becomes 1) and returns its
    outputs in the signature's order: one tensor, or a tuple. Convolutions, linear and recurrent layers and norms with
    constant weights are the `nn` modules of the same kind, with trainable parameters; every other constant is a buffer.

    Raises InexpressibleError (operator, node and opset) for what has no translation, InputError for an input whose shape
    is open or that does not fit the file.
    """
    from edgepack.convert.onnx_to_torch.translate import translate_file

    return translate_file(path, signature)


def translated_operators() -> frozenset[str]:
    """The names of the operators with a translation of their own; those that ONNX defines by others work as well."""
    from edgepack.convert.onnx_to_torch.operators import TABLE

    return frozenset(TABLE)
