"""Store the weights of a float ONNX file small: onnxruntime's dynamic quantizer, and a form of our own that it folds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepack.compress import onnx_graph, onnx_int4, onnx_small
from edgepack.compress.channels import per_channel, with_bounds
from edgepack.compress.operators import Operator, Quantized
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.runtimes import foreign

SERVED: tuple[Precision, ...] = ("w8a8", "w8a16", "mixed", "w8d", "w8", "w4", "fp16")

_SMALL = 32
"""Tensors of fewer elements are not worth a Cast node."""


def write(source: Path, precision: Precision, out: Path) -> Quantized:
    """Write `source` in a precision without calibration to `out`, whose folder is scratch. Inputs and outputs stay as they are.

    Raises InexpressibleError for a file that is quantized already, and for what onnxruntime refuses.
    """
    path = out.with_name("prepared.onnx")
    model = prepared(source, path)
    match precision:
        case "w8d":
            with foreign.converting(f"{source.name}: onnxruntime refuses {precision}"):
                _write_dynamic(path, out)
            result = onnx_graph.load(out)
            done = _difference(precision, model, onnx_graph.holding(result, set(onnx_graph.weights(result))))
        case "w8" | "w4" | "fp16":
            result, stored = _stored(model, precision, source.name)
            left = set(onnx_graph.weights(model)) - stored
            done = _difference(precision, model, onnx_graph.holding(model, left))
        case _:
            raise AssertionError(f"{precision} is not in SERVED")
    onnx_graph.clean(result)
    onnx_small.shrink(result)
    out.write_bytes(result.SerializeToString(deterministic=True))
    return done


def prepared(source: Path, path: Path) -> Any:
    """The float model of `source`, also written to `path`: constants folded, batch norms fused, nodes named, channels guarded.

    Raises InexpressibleError for a file that is quantized already.
    """
    model = onnx_graph.load(source)
    if reason := onnx_graph.already_quantized(model):
        raise InexpressibleError(
            f"{source.name} is quantized already: {reason}",
            expected="a float32 ONNX file",
            advice="start from the float model",
        )
    return _prepared(model, path, source.name)


def _prepared(model: Any, path: Path, file: str) -> Any:
    """The model, also written to `path`: constants folded, batch norms fused, shapes inferred, nodes named, channels guarded.

    Symbolic shape inference is left out: it imports sympy for four seconds and changed no result.
    """
    import onnx

    onnx.save(model, str(path))
    with foreign.converting(f"{file}: onnxruntime cannot prepare it"):
        from onnxruntime.quantization.shape_inference import quant_pre_process

        quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    prepared = onnx.load(str(path))
    onnx_graph.name_nodes(prepared)
    _guard_dead_channels(prepared)
    onnx.save(prepared, str(path))
    return prepared


def _write_dynamic(path: Path, out: Path) -> None:
    """Integer weights, activations quantized while running.

    Weights are unsigned: onnxruntime 1.19 has no ConvInteger for signed ones, and on x86 those are the slower.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(path), str(out), weight_type=QuantType.QUInt8)


def _stored(model: Any, precision: Precision, file: str) -> tuple[Any, set[str]]:
    """A model whose weights are stored as int8 or float16, widened by nodes that a runtime folds when it loads the file.

    So it runs as fast as float. A DequantizeLinear is not folded and costs up to 3 times the float latency at every run; an
    operator that computes in float16 is emulated with casts on cores without half-precision arithmetic.
    Returns the model and the names of what is stored so.
    """
    import onnx

    axes = onnx_graph.weights(model)
    nodes, constants, stored = [], [], set()
    for tensor in model.graph.initializer:
        if tensor.name in axes and (precision == "w8" or (precision == "w4" and _is_thin(tensor, axes[tensor.name]))):
            narrow, widen = _as_int8(tensor, axes[tensor.name])
        elif precision == "w4" and tensor.name in axes:
            narrow, widen = onnx_int4.narrowed(tensor, axes[tensor.name])
        elif precision == "fp16" and onnx_graph.is_matrix(tensor) and np.prod(tensor.dims) >= _SMALL:
            narrow, widen = _as_float16(tensor, file)
        else:
            constants.append(tensor)
            continue
        stored.add(tensor.name)
        constants.extend(narrow)
        nodes.extend(widen)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.initializer[:], result.graph.node[:]
    result.graph.initializer.extend(constants)
    result.graph.node.extend([*nodes, *model.graph.node])
    return result, stored


def _is_thin(tensor: Any, axis: int) -> bool:
    """Whether a channel has so few weights, as in a depthwise layer, that 4 bits would lose much and save little."""
    return bool(np.prod(tensor.dims) < _SMALL * tensor.dims[axis])


def _difference(precision: Precision, model: Any, left: tuple[Operator, ...]) -> Quantized:
    """Of the operators of `model` that hold weights, those that are not `left` are quantized."""
    weighted = onnx_graph.holding(model, set(onnx_graph.weights(model)))
    return Quantized("onnx", precision, tuple(operator for operator in weighted if operator not in left), left)


def _as_int8(tensor: Any, axis: int) -> tuple[list[Any], list[Any]]:
    import onnx

    integers, steps = per_channel(onnx_graph.array(tensor), axis, 127)
    name = tensor.name
    return (
        [onnx.numpy_helper.from_array(integers, f"{name}_int8"), onnx.numpy_helper.from_array(steps, f"{name}_step")],
        [
            onnx.helper.make_node(
                "Cast", [f"{name}_int8"], [f"{name}_wide"], f"{name}_widen", to=onnx.TensorProto.FLOAT
            ),
            onnx.helper.make_node("Mul", [f"{name}_wide", f"{name}_step"], [name], f"{name}_scale"),
        ],
    )


def _as_float16(tensor: Any, file: str) -> tuple[list[Any], list[Any]]:
    import onnx

    wide = onnx_graph.array(tensor)
    limit = float(np.finfo(np.float16).max)
    if np.abs(wide).max(initial=0.0) > limit:
        raise InexpressibleError(
            f"{file}: the weights {tensor.name} reach {float(np.abs(wide).max()):g}",
            expected=f"at most {limit:g}, float16's greatest",
        )
    name = tensor.name
    return (
        [onnx.numpy_helper.from_array(wide.astype(np.float16), f"{name}_fp16")],
        [onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_widen", to=onnx.TensorProto.FLOAT)],
    )


def _guard_dead_channels(model: Any) -> None:
    """Give channels whose weights are all zero one tiny weight.

    onnxruntime gives such a channel the scale 1, and its bias is then rounded to whole steps of the input.
    """
    import onnx

    axes = onnx_graph.weights(model)
    biased = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2}
    for tensor in model.graph.initializer:
        if tensor.name in biased and tensor.name in axes:
            values = onnx_graph.array(tensor)
            channels = values.shape[axes[tensor.name]]
            guarded = with_bounds(values, np.full(channels, np.abs(values).max(initial=0.0) * 1e-6), axes[tensor.name])
            if guarded is not values:
                tensor.CopyFrom(onnx.numpy_helper.from_array(guarded, tensor.name))
