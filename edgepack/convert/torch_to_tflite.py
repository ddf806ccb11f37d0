"""PyTorch to TFLite, through litert-torch (torch.export, then MLIR). Inputs keep their layout."""

from __future__ import annotations

from pathlib import Path

from edgepack.convert import tflite_files, torch_calls
from edgepack.model import Signature
from edgepack.ports import TorchNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays


def convert(native: TorchNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out` with the signature's names. samples: one sample an input, which torch traces the module with."""
    foreign.import_framework("torch", "torch", "converting a PyTorch model")
    litert_torch = foreign.import_framework("litert_torch", "torch", "converting a PyTorch model to TFLite")
    litert_torch.convert(*torch_calls.traceable(native, samples)).export(str(out))
    out.write_bytes(tflite_files.canonical(out.read_bytes(), signature))
