"""One call of a library in a fresh process: python run_raw.py CALL MODEL FOLDER

FOLDER holds what the call starts from (`float.onnx`, `float.tflite`, `calibration.npz`) and gets what it writes. Calls that
benchmarks/chain measures as well are its own, in stages.py.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))


@dataclass(frozen=True)
class Given:
    """What the calls of stages.py look at: a torch module where they convert one, else nothing."""

    module: Any
    calibration: Any


def main() -> None:
    call, name, folder = sys.argv[1:]
    place = Path(folder)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if call == "convert onnx":
        convert_onnx(name, place)
    elif call == "convert tflite":
        convert_tflite(name, place)
    elif call == "onnxruntime defaults":
        static(place, per_channel=False, unsigned=False)
    elif call.startswith("onnxruntime per channel"):
        static(place, per_channel=True, unsigned=call.endswith("U8S8"))
    else:
        from stages import RAW

        RAW[call](Given(None, calibration(place)), place)


def calibration(place: Path) -> Any:
    return np.load(place / "calibration.npz")["x"]


def static(place: Path, per_channel: bool, unsigned: bool) -> None:
    """onnxruntime's documented way: pre-processing, then quantize_static; what is not named keeps its default."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    from stages import _Reader

    quant_pre_process(str(place / "float.onnx"), str(place / "prepared.onnx"))
    name = onnx.load(place / "prepared.onnx").graph.input[0].name
    options = {"activation_type": QuantType.QUInt8} if unsigned else {}
    reader = _Reader(name, calibration(place))
    quantize_static(
        str(place / "prepared.onnx"), str(place / "static.onnx"), reader, per_channel=per_channel, **options
    )


def convert_onnx(name: str, place: Path) -> None:
    from compressing.models import model, module

    match model(name).framework:
        case "torch":
            from stages import raw_torch_onnx

            raw_torch_onnx(Given(module(name), calibration(place)), place)
        case "keras":
            import tensorflow as tf
            import tf2onnx

            net = _keras(name)
            spec = [tf.TensorSpec((1, *net.inputs[0].shape[1:]), tf.float32, name="x")]
            call = tf.function(lambda x: net(x, training=False), input_signature=spec)
            tf2onnx.convert.from_function(call, input_signature=spec, opset=18, output_path=str(place / "float.onnx"))
        case "saved-model":
            from tf2onnx import convert

            out = str(place / "float.onnx")
            sys.argv = ["tf2onnx", "--saved-model", model(name).source(), "--opset", "18", "--output", out]
            convert.main()


def convert_tflite(name: str, place: Path) -> None:
    from compressing.models import model, module

    if model(name).framework == "torch":
        from stages import raw_torch_tflite

        raw_torch_tflite(Given(module(name), calibration(place)), place)
        return
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter
    keras = model(name).framework == "keras"
    made = converter.from_keras_model(_keras(name)) if keras else converter.from_saved_model(model(name).source())
    (place / "float.tflite").write_bytes(made.convert())


def _keras(name: str) -> Any:
    import keras

    from compressing.models import model

    return keras.models.load_model(model(name).source(), compile=False)


if __name__ == "__main__":
    main()
