"""ai-edge-quantizer on a float TFLite file: its recipes, and the precisions that need no calibration."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.compress import tflite_graph
from edgepack.compress.channels import smallest
from edgepack.compress.operators import Quantized
from edgepack.compress.tflite_graph import Graph
from edgepack.compress.tflite_weights import round_weights
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.runtimes import foreign
from edgepack.samples import Samples

SERVED: tuple[Precision, ...] = ("w8a8", "w8a16", "mixed", "w8d", "w8", "w4", "fp16")

CASTABLE = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "EMBEDDING_LOOKUP"}
"""Operators whose weights the library can store as float16."""

Ranges = dict[str, dict[str, Any]]


def write(source: Path, precision: Precision, out: Path) -> Quantized:
    """Write `source` in a precision without calibration to `out`.

    Raises InexpressibleError for a file that is quantized already, and for what ai-edge-quantizer refuses.
    """
    opened = open_float(source)
    with foreign.converting(f"{source.name}: ai-edge-quantizer refuses {precision}"):
        written = _with_small_weights(opened, precision)
    result = tflite_graph.read(written, source.name)
    out.write_bytes(opened.as_given(result, written))
    return Quantized("tflite", precision, *tflite_graph.storing(result))


def write_rounded(source: Path, precision: Precision, out: Path, samples: Samples) -> Quantized:
    """The same for w8 and w4 with every layer's weights rounded to what it answers and its bias corrected."""
    opened = open_float(source)
    with foreign.converting(f"{source.name}: ai-edge-quantizer refuses {precision}"):
        result = tflite_graph.read(_with_small_weights(opened, precision), source.name)
    round_weights(opened.graph, result, samples)
    out.write_bytes(opened.as_given(result, tflite_graph.pack(result)))
    return Quantized("tflite", precision, *tflite_graph.storing(result))


def _with_small_weights(opened: FloatFile, precision: Precision) -> bytes:
    sizes = tflite_graph.weights(opened.graph)
    return quantized(opened.data, recipe(precision, in_eight=smallest(sizes) if precision == "w4" else ()), None)


def control_flow(source: Path) -> str:
    """See tflite_graph.control_flow."""
    return tflite_graph.control_flow(tflite_graph.read(source.read_bytes(), source.name))


@dataclass(frozen=True)
class FloatFile:
    """A float file with the signature that the quantizer needs. signed: whether the signature was its own

    arguments: the names of the signature's inputs, in the order of the graph's
    """

    data: bytes
    graph: Graph
    signed: bool
    arguments: tuple[str, ...]

    def as_given(self, graph: Graph, data: bytes) -> bytes:
        """The bytes of a quantized file, without a signature where the float file had none."""
        if self.signed:
            return data
        graph.model.signatureDefs = []
        return tflite_graph.pack(graph)


def open_float(source: Path) -> FloatFile:
    data = source.read_bytes()
    graph = tflite_graph.read(data, source.name)
    if reason := tflite_graph.already_quantized(graph):
        raise InexpressibleError(
            f"{source.name} is quantized already: {reason}",
            expected="a float32 TFLite file",
            advice="start from the float model",
        )
    arguments = tflite_graph.signature_names(graph, source.name)
    if arguments:
        return FloatFile(data, graph, True, arguments)
    arguments = tflite_graph.add_signature(graph)
    return FloatFile(tflite_graph.pack(graph), graph, False, arguments)


def recipe(
    precision: Precision, alone: Iterable[str] = (), in_float: Iterable[str] = (), in_eight: Iterable[str] = ()
) -> Any:
    """ai-edge-quantizer's recipe for a precision, as its RecipeManager.

    alone, in_float: outputs of operators that a static precision leaves alone, and whose weights it stores as float16
    in_eight: those whose weights keep 8 bits in w4
    """
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    manager, names = recipe_manager.RecipeManager(), recipe_manager.AlgorithmName
    match precision:
        case "w8a8" | "w8a16" | "mixed":
            bits = 16 if precision == "w8a16" else 8
            manager.add_static_config(".*", Op.ALL_SUPPORTED, activation_num_bits=bits, weight_num_bits=8)
            for tensor in alone:  # an operator is found by its outputs, each with a semicolon
                manager.add_quantization_config(f"^{re.escape(tensor)};?$", Op.ALL_SUPPORTED, None, names.NO_QUANTIZE)
            for tensor in in_float:
                _add_float16(manager, f"^{re.escape(tensor)};?$")
        case "w8d":
            manager.add_dynamic_config(".*", Op.ALL_SUPPORTED, num_bits=8)
        case "w8" | "w4":
            manager.add_weight_only_config(".*", Op.ALL_SUPPORTED, num_bits=int(precision[1]))
            if precision == "w4":  # it would leave them in float
                manager.add_weight_only_config(".*", Op.DEPTHWISE_CONV_2D, num_bits=8)
            for tensor in in_eight:
                manager.add_weight_only_config(f"^{re.escape(tensor)};?$", Op.ALL_SUPPORTED, num_bits=8)
        case "fp16":
            _add_float16(manager, ".*")
        case _:
            raise AssertionError(f"{precision} is not in SERVED")
    return manager


def _add_float16(manager: Any, outputs: str) -> None:
    """outputs: what the outputs of the operators match"""
    from ai_edge_quantizer import recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName as Op

    names = recipe_manager.AlgorithmName
    manager.add_weight_only_config(outputs, Op.ALL_SUPPORTED, num_bits=16, algorithm_key=names.FLOAT_CASTING)


def quantized(data: bytes, recipe: Any, ranges: Ranges | None) -> bytes:
    """What ai-edge-quantizer makes of a float file. ranges: of each tensor, for the static precisions"""
    from ai_edge_quantizer import quantizer

    tool = quantizer.Quantizer(data, recipe.get_quantization_recipe())
    result = tool.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)
