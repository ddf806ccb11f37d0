"""Weights of 4 bits in ONNX, two a byte, unpacked by constant nodes of the oldest operators: a runtime folds them when it loads.

So the file is small and runs as fast as float on every version of onnxruntime. Its own kernels for 4 bits (MatMulNBits) are for
matrices only, and an int4 DequantizeLinear needs opset 21 and computes anew at every run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.compress.channels import in_blocks
from edgepack.runtimes import foreign
from edgepack.samples import Array

_BLOCK = 32
LEVELS = 7


def in_blocks_of(rows: Array) -> tuple[NDArray[np.int8], Array]:
    """Integers `[channels, blocks, at most 32]` of weights `[channels, length]` and their steps.

    One block a channel where its length has no divisor from 16 to 32.
    """
    length = rows.shape[1]
    return in_blocks(
        rows, next((size for size in range(_BLOCK, _BLOCK // 2 - 1, -1) if length % size == 0), length), LEVELS
    )


def narrowed(
    name: str, shape: tuple[int, ...], axes: tuple[int, ...], integers: NDArray[np.int8], steps: Array
) -> tuple[list[Any], list[Any]]:
    """The initializers and nodes that stand for a float initializer. integers, steps: as `in_blocks_of` gives them"""
    onnx = foreign.import_framework("onnx", "onnx", "quantizing ONNX")
    places = [*axes, *(place for place in range(len(shape)) if place not in axes)]
    order = np.argsort(places)
    constants = {
        "packed": _packed(integers),
        "half": steps.astype(np.float16),
        "sixteen": np.float32(16),
        "sixteenth": np.float32(1 / 16),
        "zero": np.float32(8),
        "blocks": np.array(integers.shape, np.int64),
        "shape": np.array([shape[place] for place in places], np.int64),
        "length": np.array([integers.size], np.int64),
        "start": np.array([0], np.int64),
    }

    def node(kind: str, takes: list[str], gives: str, **attributes: Any) -> Any:
        names = [f"{name}_{each}" for each in takes]
        output = f"{name}_{gives}" if gives else name
        return onnx.helper.make_node(kind, names, [output], f"{output}_{kind}", **attributes)

    nodes = [
        node("Cast", ["packed"], "bytes", to=onnx.TensorProto.FLOAT),
        node("Mul", ["bytes", "sixteenth"], "shifted"),
        node("Floor", ["shifted"], "high"),
        node("Mul", ["high", "sixteen"], "tens"),
        node("Sub", ["bytes", "tens"], "low"),
        node("Concat", ["high", "low"], "nibbles", axis=0),
        node("Slice", ["nibbles", "start", "length"], "used"),
        node("Reshape", ["used", "blocks"], "blocked"),
        node("Sub", ["blocked", "zero"], "centered"),
        node("Cast", ["half"], "step", to=onnx.TensorProto.FLOAT),
        node("Mul", ["centered", "step"], "wide"),
        node("Reshape", ["wide", "shape"], "moved"),
        node("Transpose", ["moved"], "", perm=[int(place) for place in order]),
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(array), f"{name}_{key}") for key, array in constants.items()]
    return tensors, nodes


def _packed(integers: Array) -> Array:
    """Integers −7 … 7 as nibbles 1 … 15: the first half of them in the high ones, the second in the low ones."""
    flat = (integers.reshape(-1) + 8).astype(np.uint8)
    flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8))
    first, second = np.split(flat, 2)
    packed: Array = (first << 4) | second
    return packed
