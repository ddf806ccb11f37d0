"""Keras and SavedModels to TFLite, through TensorFlow's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepack.convert import keras_calls, tflite_files
from edgepack.model import Signature
from edgepack.ports import KerasNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays


def convert(native: KerasNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Write `out` with the signature's names.

    Not `from_concrete_functions` for Keras 3: unless frozen first, that writes a small file whose outputs are NaN.
    """
    tensorflow = foreign.import_framework("tensorflow", "keras", "converting a Keras model to TFLite")
    lite: Any = tensorflow.lite.TFLiteConverter
    if native.saved is None:
        converter = lite.from_keras_model(keras_calls.with_fixed_inputs(native, signature, tflite_files.WRAPPER))
    else:
        function = keras_calls.as_function(native, signature).get_concrete_function()
        converter = lite.from_concrete_functions([function], native.model)
    out.write_bytes(tflite_files.canonical(converter.convert(), signature))
