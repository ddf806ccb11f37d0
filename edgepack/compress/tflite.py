"""Quantize a float TFLite file with ai-edge-quantizer, with ranges over all samples instead of its moving average."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.compress import tflite_graph
from edgepack.compress.channels import least_bounds, with_bounds
from edgepack.compress.operators import Quantized
from edgepack.compress.tflite_graph import Graph
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.runtimes import foreign
from edgepack.samples import Samples

STATIC: tuple[Precision, ...] = ("w8a8", "w8a16")
SERVED: tuple[Precision, ...] = ("w8a8", "w8a16", "w8d", "w8", "w4", "fp16")

_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Which axis of an operator's weights its bias runs along."""

_Ranges = dict[str, dict[str, Any]]


def write(
    source: Path, precision: Precision, calibration: Samples | None, names: tuple[str, ...], out: Path
) -> Quantized:
    """Write `source` in `precision` to `out`.

    calibration: needed by the static precisions, in the order of `names`, the file's inputs as the runtime names them
    Raises InexpressibleError for a file that is quantized already, and for what ai-edge-quantizer refuses.
    """
    data = source.read_bytes()
    graph = tflite_graph.read(data, source.name)
    if reason := tflite_graph.already_quantized(graph):
        raise InexpressibleError(
            f"{source.name} is quantized already: {reason}",
            expected="a float32 TFLite file",
            advice="start from the float model",
        )
    has_signature = bool(tflite_graph.signature_names(graph, source.name))
    arguments = names if has_signature else tflite_graph.add_signature(graph)
    data = data if has_signature else tflite_graph.pack(graph)
    recipe = _recipe(precision, tflite_graph.final_softmaxes(graph))
    ranges = None
    refused = f"{source.name}: ai-edge-quantizer refuses {precision}"
    if calibration is not None and precision in STATIC:
        with foreign.converting(refused):
            ranges = _global_ranges(data, recipe, arguments, calibration)
    if ranges is not None and precision == "w8a8":
        data = _with_fitting_biases(data, ranges, source.name)
    with foreign.converting(refused):
        written = _quantize(data, recipe, ranges)
    result = tflite_graph.read(written, source.name)
    if not has_signature:
        result.model.signatureDefs = []
        written = tflite_graph.pack(result)
    out.write_bytes(written)
    count = tflite_graph.computing if precision in STATIC else tflite_graph.storing
    return Quantized("tflite", precision, *count(result))


def _recipe(precision: Precision, final_softmaxes: tuple[str, ...]) -> Any:
    """ai-edge-quantizer's recipe for a precision, as its RecipeManager.

    A softmax that the model gives to the outside stays in float in the static precisions: its int8 step is 1/256, below
    which every value of a softmax over 1000 classes falls.
    """
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    manager, names = recipe_manager.RecipeManager(), recipe_manager.AlgorithmName
    match precision:
        case "w8a8" | "w8a16":
            bits = 8 if precision == "w8a8" else 16
            manager.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=bits, weight_num_bits=8)
            for tensor in final_softmaxes:
                for kind in (Op.SOFTMAX, Op.RESHAPE, Op.OUTPUT):
                    manager.add_quantization_config(re.escape(tensor), kind, None, names.NO_QUANTIZE)
        case "w8d":
            manager.add_dynamic_config(".*", Op.ALL_SUPPORTED, num_bits=8)
        case "w8" | "w4":
            manager.add_weight_only_config(".*", Op.ALL_SUPPORTED, num_bits=int(precision[1]))
        case "fp16":
            manager.add_weight_only_config(".*", Op.ALL_SUPPORTED, num_bits=16, algorithm_key=names.FLOAT_CASTING)
        case _:
            raise AssertionError(f"{precision} is not in SERVED")
    return manager


def _global_ranges(data: bytes, recipe: Any, arguments: tuple[str, ...], calibration: Samples) -> _Ranges:
    """The least and greatest value of every tensor over all samples.

    The library's default is a moving average (0.95) over samples, which forgets all but the last few dozen and cost 10 to
    14 dB on every net tried. Its profiler-based mode finds the same ranges as its default one, several times faster and
    without copying every tensor of every sample.
    """
    from ai_edge_quantizer import calibrator
    from ai_edge_quantizer.utils import qsv_utils

    tool = calibrator.Calibrator(
        data,
        num_threads=1,
        mode=calibrator.CalibrationMode.CALIBRATION_PROFILER_BASED,
        qsv_update_func=qsv_utils.min_max_update,
    )
    rows = [dict(zip(arguments, batch, strict=True)) for batch in calibration.batches(1)]
    tool.calibrate({next(iter(tool.get_signature_list())): rows}, recipe)
    ranges: _Ranges = tool.get_model_qsvs()
    return ranges


def _quantize(data: bytes, recipe: Any, ranges: _Ranges | None) -> bytes:
    from ai_edge_quantizer import quantizer

    tool = quantizer.Quantizer(data, recipe.get_quantization_recipe())
    result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def _with_fitting_biases(data: bytes, ranges: _Ranges, file: str) -> bytes:
    """The model with the weights of near-dead channels raised to where their bias fits an int32.

    A bias is stored in steps of (input scale × weight scale). A channel whose weights are all zero gets a weight scale of
    1e-11 from the library, and its bias overflows: the channel loses its value.
    """
    graph = tflite_graph.read(data, file)
    changed = [_raise_channels(graph, node, ranges) for node in graph.nodes if node.kind in _CHANNEL_AXIS]
    return tflite_graph.pack(graph) if any(changed) else data


def _raise_channels(graph: Graph, node: tflite_graph.Node, ranges: _Ranges) -> bool:
    if len(node.inputs) < 3 or node.inputs[2] < 0 or not all(graph.constant[index] for index in node.inputs[1:3]):
        return False
    tensors, buffers = graph.model.subgraphs[0].tensors, graph.model.buffers
    seen = ranges.get(graph.names[node.inputs[0]])
    if not seen or graph.types[node.inputs[1]] != "FLOAT32":
        return False
    weights_tensor, bias_tensor = tensors[node.inputs[1]], tensors[node.inputs[2]]
    weights = buffers[weights_tensor.buffer].data.view(np.float32).reshape(weights_tensor.shape)
    bias = buffers[bias_tensor.buffer].data.view(np.float32)
    step = _step(float(np.min(seen["min"])), float(np.max(seen["max"])))
    raised = with_bounds(weights, least_bounds(bias, step), _CHANNEL_AXIS[node.kind])
    if raised is weights:
        return False
    buffers[weights_tensor.buffer].data = np.frombuffer(raised.tobytes(), np.uint8)
    return True


def _step(low: float, high: float) -> float:
    """The size of an asymmetric int8 step over a range that is made to hold zero, never zero itself."""
    return max(max(high, 0.0) - min(low, 0.0), 1e-9) / 255
