"""Integers in and out of each operator of an ONNX file: onnxruntime's QDQ quantizer, with ranges of our own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgepack.compress import onnx_graph, onnx_small, onnx_stored
from edgepack.compress.calibration import Calibration, Passes
from edgepack.compress.correction import Walk
from edgepack.compress.onnx import prepared
from edgepack.compress.onnx_walk import OnnxWalk
from edgepack.compress.onnx_watch import watch
from edgepack.compress.operators import Quantized
from edgepack.compress.ranges import Method, Range
from edgepack.compress.static import Plan, Rest
from edgepack.names import Precision
from edgepack.runtimes import foreign
from edgepack.samples import Samples

Stored = Literal["int8", "uint8", "int16"]
_LEVELS: dict[Stored, int] = {"int8": 256, "uint8": 256, "int16": 65536}


class OnnxStatic:
    """See static.Static. scratch: a folder to write to; names: the file's inputs in the order of a sample's arrays."""

    rests: tuple[Rest, ...] = ("int8", "fp16")

    def __init__(
        self,
        source: Path,
        precision: Precision,
        calibration: Samples,
        names: tuple[str, ...],
        stored: Stored,
        scratch: Path,
        passes: Passes,
    ) -> None:
        """Raises InexpressibleError for a file that is quantized already."""
        self._file, self._precision, self._names, self._stored = source.name, precision, names, stored
        self._model = prepared(source, scratch / "prepared.onnx")
        onnx_graph.add_biases(self._model)
        self._softmaxes = onnx_graph.final_softmaxes(self._model)
        with foreign.converting(f"{source.name}: onnxruntime cannot run it tensor by tensor"):
            self.calibration: Calibration = passes.of(source, calibration, lambda: watch(self._model, names))

    def ranges(self, method: Method) -> Mapping[str, Range]:
        return self.calibration.ranges(method, _LEVELS[self._stored])

    def write(self, plan: Plan) -> bytes:
        in_float = (*self._softmaxes, *sorted(plan.in_float))
        with foreign.converting(f"{self._file}: onnxruntime refuses {self._precision}"):
            model = _quantized(self._model, self.ranges(plan.method), self._stored, in_float)
        forms = onnx_stored.forms(model, plan.rest)
        onnx_stored.store(model, forms, onnx_stored.grids(model, forms), self._file)
        data: bytes = model.SerializeToString(deterministic=True)
        return data

    def rest(self, data: bytes) -> tuple[str, ...]:
        model = _parse(data)
        return tuple(operator.name for operator in onnx_graph.holding(model, onnx_graph.widened(model)))

    def walk(self, data: bytes, samples: Samples) -> tuple[Walk, Callable[[], bytes]]:
        quantized = _parse(data)
        return OnnxWalk(self._model, quantized, self._names, samples), lambda: bytes(
            quantized.SerializeToString(deterministic=True)
        )

    def last_operators(self, output: int) -> tuple[str, ...]:
        return onnx_graph.last_operators(self._model, output)

    def with_activation(self, layer: str) -> tuple[str, ...]:
        return onnx_graph.with_activation(self._model, layer)

    def output_of(self, layer: str) -> str:
        node = next(node for node in self._model.graph.node if node.name == self.with_activation(layer)[-1])
        return str(node.output[0])

    def finish(self, data: bytes) -> tuple[bytes, Quantized]:
        result = _parse(data)
        done = Quantized("onnx", self._precision, *onnx_graph.computing(result))
        onnx_graph.clean(result)
        onnx_small.shrink(result)
        return bytes(result.SerializeToString(deterministic=True)), done


def _parse(data: bytes) -> Any:
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    return onnx.load_from_string(data)


def _quantized(model: Any, ranges: Mapping[str, Range], stored: Stored, in_float: Sequence[str]) -> Any:
    """What `onnxruntime.quantization.quantize_static` does, per channel, with ranges instead of a calibration of its own."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer
    from onnxruntime.quantization.quantize import update_opset_version
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    kind = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8, "int16": QuantType.QInt16}[stored]
    inferred = save_and_reload_model_with_shape_infer(model)
    seen = {
        name: TensorData(lowest=np.float32(range.low), highest=np.float32(range.high)) for name, range in ranges.items()
    }
    tool = QDQQuantizer(
        update_opset_version(inferred, QuantType.QInt8, kind),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=kind,
        tensors_range=TensorsData(CalibrationMethod.MinMax, seen),
        nodes_to_quantize=[],
        nodes_to_exclude=list(in_float),
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
        extra_options={},
    )
    tool.quantize_model()
    tool.model.topological_sort()
    return tool.model.model
