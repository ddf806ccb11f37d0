"""PyTorch to ONNX, through torch's own exporter (torch.export, then onnxscript's translation)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.convert import onnx_files, torch_calls
from edgepack.model import Signature
from edgepack.ports import TorchNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays

OPSET = 18
"""The one the exporter is written for: higher ones are reached by converting, lower ones likewise."""


def convert(native: TorchNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out` with the signature's names. samples: one sample an input, which torch traces the module with."""
    torch = foreign.import_framework("torch", "torch", "converting a PyTorch model")
    foreign.import_framework("onnxscript", "onnx", "converting a PyTorch model to ONNX")
    module, arguments = torch_calls.traceable(native, samples)
    program: Any = torch.onnx.export(
        module,
        arguments,
        dynamo=True,
        opset_version=OPSET,
        external_data=False,
        verbose=False,
        input_names=[spec.name for spec in signature.inputs],
        output_names=[spec.name for spec in signature.outputs],
    )
    onnx_files.write(program.model_proto, signature, out)
