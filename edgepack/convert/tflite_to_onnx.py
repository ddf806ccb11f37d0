"""TFLite to ONNX, through tf2onnx, with what it gets wrong taken out of its way."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgepack import runtimes
from edgepack.convert import onnx_files, onnx_order
from edgepack.convert.tflite_spelling import spelled_out
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
    with tempfile.TemporaryDirectory() as folder:
        spelled = Path(folder) / "spelled.tflite"
        spelled.write_bytes(spelled_out(native.path.read_bytes()))
        proto, _ = tf2onnx.convert.from_tflite(str(spelled), opset=OPSET)
    opened = runtimes.open_session(native.path, "tflite")
    onnx_files.show_real_values(proto, opened.stored_inputs, opened.stored_outputs)
    onnx_order.order(proto.graph)
    onnx_files.write(proto, signature, out)
