"""ONNX → TFLite: the graph as a torch module (`onnx_to_torch`), and from there through LiteRT's own converter."""

from __future__ import annotations

import os
from pathlib import Path

from edgepack.convert.onnx_to_torch import to_module
from edgepack.model import Signature
from edgepack.samples import Arrays


def convert(source: Path, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write the ONNX model `source` as a TFLite model for a batch of 1 to `out`.

    Inputs and outputs keep the signature's order, shapes, layouts and dtypes. samples: one array an input, the samples along
    the first axis; the first sample traces the model.

    Raises InexpressibleError (operator, node and opset) for what TFLite or this route has no way to say, InputError for a
    dimension beyond the batch that is left open. `out` appears only when it is whole.
    """
    import torch

    from edgepack.convert.onnx_to_torch.fuse import fold_batch_norms
    from edgepack.convert.onnx_to_torch.lower import lower

    module = fold_batch_norms(to_module(source, signature))
    inputs = tuple(torch.from_numpy(array[:1].copy()) for array in samples)
    aside = out.with_name(f".{out.name}.part")
    try:
        lower(module, inputs, aside, str(source))
        os.replace(aside, out)
    finally:
        aside.unlink(missing_ok=True)
