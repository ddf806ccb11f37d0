"""ONNX → TFLite: the graph as a torch module (`onnx_to_torch`), and from there through LiteRT's own converter."""

from __future__ import annotations

from pathlib import Path

from edgepack import files
from edgepack.convert import tflite_files
from edgepack.convert.onnx_to_torch import to_module
from edgepack.model import Signature
from edgepack.runtimes import foreign
from edgepack.samples import Arrays


def convert(source: Path, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write the ONNX model `source` as a TFLite model for a batch of 1 to `out`, whole or not at all.

    Inputs and outputs keep the signature's names, order, shapes, layouts and dtypes. samples: as for every route; a graph
    that was translated with fixed shapes is traced without them.

    Raises InexpressibleError (operator, node and opset) for what TFLite or this route has no way to say, InputError for a
    dimension beyond the batch that is left open, UsageError where the route's extra is not installed.
    """
    foreign.import_framework("torch", "torch", "converting an ONNX model to TFLite")
    foreign.import_framework("onnx", "onnx", "converting an ONNX model to TFLite")

    from edgepack.convert.onnx_to_torch.fuse import fold_batch_norms
    from edgepack.convert.onnx_to_torch.lower import lower
    from edgepack.convert.onnx_to_torch.tensors import examples

    module = fold_batch_norms(to_module(source, signature))
    with files.aside(out) as fresh:
        lower(module, examples(signature), fresh, str(source))
        fresh.write_bytes(tflite_files.canonical(fresh.read_bytes(), signature))
