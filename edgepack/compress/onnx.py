"""Store the weights of a float ONNX file small: onnxruntime's dynamic quantizer, and a form of our own that it folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.compress import onnx_graph, onnx_small, onnx_stored
from edgepack.compress.channels import with_bounds
from edgepack.compress.correction import walk_through
from edgepack.compress.onnx_stored import Form, OnGrid
from edgepack.compress.onnx_weights import OnnxWeightWalk
from edgepack.compress.operators import Operator, Quantized
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.runtimes import foreign
from edgepack.samples import Samples

SERVED: tuple[Precision, ...] = ("w8a8", "w8a16", "mixed", "w8d", "w8", "w4", "fp16")


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
        case "w8" | "w4" | "fp16":
            result = onnx_graph.load(path)
        case _:
            raise AssertionError(f"{precision} is not in SERVED")
    forms = _forms(result, precision)
    return _finish(model, result, precision, forms, onnx_stored.grids(result, forms), out, source.name)


def write_rounded(source: Path, precision: Precision, out: Path, names: Sequence[str], samples: Samples) -> Quantized:
    """The same for w8 and w4 with every layer's weights rounded to what it answers and its bias corrected.

    names: the file's inputs, in the order of a sample's arrays
    """
    model = prepared(source, out.with_name("prepared.onnx"))
    onnx_graph.add_biases(model)
    forms = _forms(model, precision)
    walk = OnnxWeightWalk(model, onnx_stored.grids(model, forms), names, samples)
    walk_through(walk, rounds=True)
    return _finish(model, walk.rounded, precision, forms, walk.grids, out, source.name)


def _finish(
    model: Any,
    result: Any,
    precision: Precision,
    forms: Mapping[str, Form],
    grids: Mapping[str, OnGrid],
    out: Path,
    file: str,
) -> Quantized:
    onnx_stored.store(result, forms, grids, file)
    done = _difference(precision, model, onnx_graph.holding(result, set(onnx_graph.weights(result))))
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
    onnx_graph.flatten_biases(prepared)
    _guard_dead_channels(prepared)
    onnx.save(prepared, str(path))
    return prepared


def _write_dynamic(path: Path, out: Path) -> None:
    """Integer weights, activations quantized while running.

    Weights are unsigned: onnxruntime 1.19 has no ConvInteger for signed ones, and on x86 those are the slower.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(path), str(out), weight_type=QuantType.QUInt8)


def _forms(model: Any, precision: Precision) -> dict[str, Form]:
    """How each initializer that is float32 is stored in a precision; those that stay so are not named."""
    if precision == "fp16":
        return {tensor.name: "fp16" for tensor in model.graph.initializer if onnx_stored.is_worth_it(tensor)}
    return onnx_stored.forms(model, "int4" if precision == "w4" else "int8")


def _difference(precision: Precision, model: Any, left: tuple[Operator, ...]) -> Quantized:
    """Of the operators of `model` that hold weights, those that are not `left` are quantized."""
    weighted = onnx_graph.holding(model, set(onnx_graph.weights(model)))
    return Quantized("onnx", precision, tuple(operator for operator in weighted if operator not in left), left)


def _guard_dead_channels(model: Any) -> None:
    """Give channels whose weights are all zero one tiny weight.

    onnxruntime gives such a channel the scale 1, and its bias is then rounded to whole steps of the input.
    """
    import onnx

    axes = {name: first for name, (first, *_) in onnx_graph.weights(model).items()}
    biased = {node.input[1] for node in model.graph.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2}
    for tensor in model.graph.initializer:
        if tensor.name in biased and tensor.name in axes:
            values = onnx_graph.array(tensor)
            channels = values.shape[axes[tensor.name]]
            guarded = with_bounds(values, np.full(channels, np.abs(values).max(initial=0.0) * 1e-6), axes[tensor.name])
            if guarded is not values:
                tensor.CopyFrom(onnx.numpy_helper.from_array(guarded, tensor.name))
