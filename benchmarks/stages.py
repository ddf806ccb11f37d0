"""One stage of the chain in a fresh process, as edgepack does it or as the raw library call it wraps.

    python stages.py raw|edgepack STAGE MODEL FOLDER       FOLDER keeps the files that later stages read

The raw calls are those of the libraries' own documentation, with the same settings that edgepack uses, nothing checked.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))


def raw_torch_onnx(subject, folder: Path) -> None:
    import torch

    example = torch.from_numpy(subject.calibration[:1])
    torch.onnx.export(
        subject.module,
        (example,),
        folder / "float.onnx",
        dynamo=True,
        opset_version=18,
        external_data=False,
        verbose=False,
    )


def raw_torch_tflite(subject, folder: Path) -> None:
    import litert_torch
    import torch

    litert_torch.convert(subject.module, (torch.from_numpy(subject.calibration[:1]),)).export(
        str(folder / "float.tflite")
    )


class _Reader:
    def __init__(self, name: str, samples) -> None:
        self._items = iter([{name: sample[None]} for sample in samples])

    def get_next(self):
        return next(self._items, None)


def raw_onnx_w8a8(subject, folder: Path) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(folder / "float.onnx"), str(prepared))
    name = onnx.load(prepared).graph.input[0].name
    quantize_static(
        str(prepared),
        str(folder / "w8a8.onnx"),
        _Reader(name, subject.calibration),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
    )


def raw_onnx_w8d(subject, folder: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(folder / "float.onnx"), str(folder / "w8d.onnx"), weight_type=QuantType.QUInt8)


def raw_onnx_fp16(subject, folder: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(folder / "float.onnx"), keep_io_types=True), folder / "fp16.onnx")


def _quantize_tflite(folder: Path, recipe, name: str, samples=None) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer

    work = quantizer.Quantizer(str(folder / "float.tflite"), recipe)
    ranges = None
    if samples is not None:
        signatures = Interpreter(str(folder / "float.tflite")).get_signature_list()
        ((key, signature),) = signatures.items()
        ranges = work.calibrate({key: [{signature["inputs"][0]: sample[None]} for sample in samples]})
    work.quantize(ranges).export_model(str(folder / name), overwrite=True)


def raw_tflite_w8a8(subject, folder: Path) -> None:
    from ai_edge_quantizer import recipe

    _quantize_tflite(folder, recipe.static_wi8_ai8(), "w8a8.tflite", subject.calibration)


def raw_tflite_w8d(subject, folder: Path) -> None:
    from ai_edge_quantizer import recipe

    _quantize_tflite(folder, recipe.dynamic_wi8_afp32(), "w8d.tflite")


def raw_tflite_fp16(subject, folder: Path) -> None:
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.qtyping import (
        ComputePrecision,
        OpQuantizationConfig,
        TensorDataType,
        TensorQuantizationConfig,
    )

    manager = recipe_manager.RecipeManager()
    manager.add_quantization_config(
        regex=".*",
        operation_name="*",
        algorithm_key="float_casting",
        op_config=OpQuantizationConfig(
            weight_tensor_config=TensorQuantizationConfig(num_bits=16, dtype=TensorDataType.FLOAT),
            compute_precision=ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
    )
    _quantize_tflite(folder, manager.get_quantization_recipe(), "fp16.tflite")


RAW = {
    "torch → onnx": raw_torch_onnx,
    "torch → tflite": raw_torch_tflite,
    "onnx w8a8": raw_onnx_w8a8,
    "onnx w8d": raw_onnx_w8d,
    "onnx fp16": raw_onnx_fp16,
    "tflite w8a8": raw_tflite_w8a8,
    "tflite w8d": raw_tflite_w8d,
    "tflite fp16": raw_tflite_fp16,
}


def edgepack_stage(stage: str, model: str, subject, folder: Path) -> None:
    from edgepack import compress, convert
    from edgepack.digest import Digest
    from edgepack.model import TensorSpec
    from edgepack.ports import Silent
    from edgepack.samples import Samples
    from edgepack.sources import torch_source

    calibration = Samples((subject.calibration,), None, Digest("sha256:00"))
    source, _, target = stage.partition(" → ")
    if target:
        inputs = (TensorSpec("x", (1, *subject.calibration.shape[1:])),)
        loaded = torch_source.from_module(model, subject.module, Digest("sha256:00"), inputs)
        convert.convert(loaded, target, folder / f"float.{target}", calibration, Silent())
        return
    format, precision = source.split()
    compress.quantize(
        folder / f"float.{format}", format, precision, calibration, folder / f"{precision}.{format}", Silent()
    )


def main() -> None:
    side, stage, model, folder = sys.argv[1:]
    from models import SUBJECTS

    subject = SUBJECTS[model]()
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    if stage == "nothing":  # what loading the model and its framework costs: part of every stage
        return
    if stage == "all":
        for call in RAW.values():
            call(subject, place)
    elif stage == "data":
        np.savez(place / "calibration.npz", x=subject.calibration)
        np.savez(place / "evaluation.npz", x=subject.evaluation, y=subject.labels)
    elif side == "raw":
        RAW[stage](subject, place)
    else:
        edgepack_stage(stage, model, subject, place)


if __name__ == "__main__":
    main()
