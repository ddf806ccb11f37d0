"""Weights of an ONNX file stored small, and widened by constant nodes of old operators: a runtime folds those when it loads.

So the file is small and runs as fast as float. A DequantizeLinear is not folded and costs up to 3 times the float latency at
every run; an operator that computes in float16 is emulated with casts on cores without half-precision arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from edgepack.compress import onnx_graph, onnx_int4
from edgepack.compress.channels import per_channel, smallest
from edgepack.errors import InexpressibleError
from edgepack.runtimes import foreign
from edgepack.samples import Array

Form = Literal["int8", "int4", "fp16"]

_LEAST = 32
"""Tensors of fewer elements are not worth a node."""


def forms(model: Any, wanted: Form) -> dict[str, Form]:
    """How each float32 initializer that an operator holds as weights is stored where `wanted` is; those that stay are not named.

    Biases of recurrent operators are as long as a row of their weights is high, and lose nothing in 16 bits.
    """
    axes, biases = onnx_graph.weights(model), onnx_graph.recurrent_biases(model)
    found: dict[str, Form] = {}
    for tensor in model.graph.initializer:
        if tensor.name in axes and is_worth_it(tensor):
            found[tensor.name] = _form(tensor, axes[tensor.name], wanted)
        elif tensor.name in biases and is_worth_it(tensor) and _fits_float16(onnx_graph.array(tensor)):
            found[tensor.name] = "fp16"
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    in_four = {name: sizes[name] for name, form in found.items() if form == "int4"}
    return found | dict.fromkeys(smallest(in_four), "int8")


def is_worth_it(tensor: Any) -> bool:
    """Whether an initializer is a float32 matrix that is large enough to be stored small."""
    return onnx_graph.is_matrix(tensor) and int(np.prod(tensor.dims)) >= _LEAST


def _form(tensor: Any, axes: tuple[int, ...], wanted: Form) -> Form:
    """A channel with few weights, as in a depthwise layer, keeps 8 bits: 4 would lose much and save little."""
    thin = int(np.prod(tensor.dims)) < _LEAST * int(np.prod([tensor.dims[axis] for axis in axes]))
    return "int8" if wanted == "int4" and thin else wanted


def _fits_float16(values: Array) -> bool:
    return bool(np.abs(values).max(initial=0.0) <= np.finfo(np.float16).max)


@dataclass(frozen=True)
class OnGrid:
    """Weights as integers times steps.

    axes: of the channels; integers: `[channels, blocks, weights of a block]`; steps: `[channels, blocks, 1]`; limit: the
    largest integer
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    integers: NDArray[np.int8]
    steps: Array
    limit: int

    def meant(self) -> Array:
        """The float weights."""
        return self.arranged(self.integers * self.steps)

    def arranged(self, rows: Array) -> Array:
        """Values of all weights, or one a channel, given channel by channel, in the axes of the weights."""
        sizes = [self.shape[axis] for axis in self.axes]
        others = [size for axis, size in enumerate(self.shape) if axis not in self.axes]
        moved = rows.reshape(*sizes, *(others if rows.size > len(rows) else [1] * len(others)))
        values: Array = np.ascontiguousarray(np.moveaxis(moved, range(len(self.axes)), self.axes))
        return values


def on_grid(tensor: Any, axes: tuple[int, ...], form: Form) -> OnGrid:
    """Each weight of an initializer as the nearest integer that 8 or 4 bits hold."""
    values = onnx_graph.array(tensor)
    rows = np.moveaxis(values, axes, range(len(axes)))
    rows = rows.reshape(int(np.prod(rows.shape[: len(axes)])), -1)
    if form == "int4":
        return OnGrid(values.shape, axes, *onnx_int4.in_blocks_of(rows), onnx_int4.LEVELS)
    integers, steps = per_channel(rows, (0,), 127)
    return OnGrid(values.shape, axes, integers[:, None], steps[:, None], 127)


def grids(model: Any, forms: Mapping[str, Form]) -> dict[str, OnGrid]:
    """Those of the wanted forms that are of integers."""
    axes = onnx_graph.weights(model)
    found = [tensor for tensor in model.graph.initializer if forms.get(tensor.name) in ("int8", "int4")]
    return {tensor.name: on_grid(tensor, axes[tensor.name], forms[tensor.name]) for tensor in found}


def store(model: Any, forms: Mapping[str, Form], grids: Mapping[str, OnGrid], file: str) -> None:
    """Store initializers in the forms wanted.

    forms: by the initializer's name; grids: of those that become integers; file: named in an error

    Raises InexpressibleError for weights beyond float16.
    """
    nodes: list[Any] = []
    constants: list[Any] = []
    for tensor in model.graph.initializer:
        wanted = forms.get(tensor.name)
        match wanted:
            case None:
                constants.append(type(tensor).FromString(tensor.SerializeToString()))
                continue
            case "int8":
                narrow, widen = _as_int8(tensor.name, grids[tensor.name])
            case "int4":
                grid = grids[tensor.name]
                narrow, widen = onnx_int4.narrowed(tensor.name, grid.shape, grid.axes, grid.integers, grid.steps)
            case "fp16":
                narrow, widen = _as_float16(tensor, file)
            case _:
                assert_never(wanted)
        constants.extend(narrow)
        nodes.extend(widen)
    nodes.extend(type(node).FromString(node.SerializeToString()) for node in model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(constants)
    model.graph.node.extend(nodes)


def _as_int8(name: str, grid: OnGrid) -> tuple[list[Any], list[Any]]:
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    integers, steps = grid.arranged(grid.integers), grid.arranged(grid.steps)
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
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    wide = onnx_graph.array(tensor)
    if not _fits_float16(wide):
        raise InexpressibleError(
            f"{file}: the weights {tensor.name} reach {float(np.abs(wide).max()):g}",
            expected=f"at most {float(np.finfo(np.float16).max):g}, float16's greatest",
        )
    name = tensor.name
    return (
        [onnx.numpy_helper.from_array(wide.astype(np.float16), f"{name}_fp16")],
        [onnx.helper.make_node("Cast", [f"{name}_fp16"], [name], f"{name}_widen", to=onnx.TensorProto.FLOAT)],
    )
