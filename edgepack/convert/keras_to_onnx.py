"""Keras and SavedModels to ONNX, through tf2onnx."""

from __future__ import annotations

from pathlib import Path

from edgepack.convert import keras_calls, onnx_files, onnx_order
from edgepack.model import Signature
from edgepack.ports import KerasNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays

OPSET = 18
"""The highest that tf2onnx writes."""


def convert(native: KerasNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out` with the signature's names."""
    foreign.import_framework("tensorflow", "keras", "converting a Keras model")
    tf2onnx = foreign.import_framework("tf2onnx", "keras", "converting a Keras model to ONNX")
    function = keras_calls.as_function(native, signature)
    proto, _ = tf2onnx.convert.from_function(
        function, input_signature=keras_calls.input_signature(signature), opset=OPSET
    )
    onnx_order.order(proto.graph)
    onnx_files.write(proto, signature, out)
