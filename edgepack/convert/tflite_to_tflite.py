"""TFLite as it is: the user's own bytes, unless an input leaves a size open."""

from __future__ import annotations

from pathlib import Path

from edgepack.convert import tflite_files
from edgepack.model import Signature
from edgepack.ports import TfliteNative
from edgepack.samples import Arrays


def convert(native: TfliteNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Copy, with the signature's sizes written in where the inputs had none."""
    out.write_bytes(tflite_files.with_fixed_inputs(native.path.read_bytes(), signature))
