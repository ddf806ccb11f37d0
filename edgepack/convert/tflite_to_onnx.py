"""TFLite to ONNX, through tf2onnx. Right for convolutional nets; wrong for some others, which parity finds."""

from __future__ import annotations

from pathlib import Path

from edgepack import runtimes
from edgepack.convert import onnx_files, onnx_order
from edgepack.model import Signature
from edgepack.ports import TfliteNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays

OPSET = 18
"""The highest that tf2onnx writes."""


def convert(native: TfliteNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out` with the signature's names. What the file stores as integers with a scale is real-valued in `out` too."""
    foreign.import_framework("tensorflow", "keras", "converting a TFLite model to ONNX")
    tf2onnx = foreign.import_framework("tf2onnx", "keras", "converting a TFLite model to ONNX")
    proto, _ = tf2onnx.convert.from_tflite(str(native.path), opset=OPSET)
    opened = runtimes.open_session(native.path, "tflite")
    onnx_files.show_real_values(proto, opened.stored_inputs, opened.stored_outputs)
    onnx_order.order(proto.graph)
    onnx_files.write(proto, signature, out)
