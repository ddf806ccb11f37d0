"""Every operator, opset by opset where its arguments changed, against onnxruntime.

A row is: operator, opset, the node's inputs in order, its attributes. `x(…)` arrives at run time, `w(…)` is a constant,
`k(…)` a constant of given values, None an input left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytestmark = pytest.mark.frameworks

Array = NDArray[Any]


@dataclass(frozen=True)
class Given:
    array: Array
    constant: bool


@dataclass(frozen=True)
class Case:
    op: str
    opset: int
    inputs: tuple[Given | None, ...]
    attributes: dict[str, Any]
    outputs: int = 1

    def __str__(self) -> str:
        said = ",".join(f"{k}={v}" for k, v in self.attributes.items())
        kinds = "".join("-" if g is None else "k" if g.constant else "x" for g in self.inputs)
        return f"{self.op}-{self.opset}-{kinds}-{said}".replace(" ", "")[:100]


_RANDOM = np.random.default_rng(7)


def x(*shape: int, dtype: str = "float32", low: float = -2.0, high: float = 2.0) -> Given:
    return Given(_draw(shape, dtype, low, high), constant=False)


def w(*shape: int, dtype: str = "float32", low: float = -1.0, high: float = 1.0) -> Given:
    return Given(_draw(shape, dtype, low, high), constant=True)


def k(values: Any, dtype: str = "int64") -> Given:
    return Given(np.asarray(values, dtype), constant=True)


def _draw(shape: tuple[int, ...], dtype: str, low: float, high: float) -> Array:
    if dtype == "bool":
        return _RANDOM.random(shape) < 0.5
    values = _RANDOM.uniform(low, high, shape)
    return np.asarray(np.floor(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)


def case(op: str, opset: int, *inputs: Given | None, outputs: int = 1, **attributes: Any) -> Case:
    return Case(op, opset, inputs, attributes, outputs)


IMAGE = (1, 4, 9, 8)
B = "bool"
I = "int64"

UNARY = [
    case(op, 13, x(2, 3, low=low, high=high))
    for op, low, high in [
        ("Abs", -2, 2), ("Acos", -1, 1), ("Asin", -1, 1), ("Atan", -2, 2), ("Atanh", -0.9, 0.9), ("Acosh", 1.1, 3),
        ("Asinh", -2, 2), ("Ceil", -2, 2), ("Cos", -2, 2), ("Cosh", -2, 2), ("Erf", -2, 2), ("Exp", -2, 2), ("Floor", -2, 2),
        ("Identity", -2, 2), ("IsNaN", -2, 2), ("Log", 0.1, 3), ("Neg", -2, 2), ("Reciprocal", 0.5, 2), ("Relu", -2, 2),
        ("Round", -3, 3), ("Sigmoid", -9, 9), ("Sign", -2, 2), ("Sin", -2, 2), ("Sinh", -2, 2), ("Sqrt", 0.1, 3),
        ("Softplus", -30, 30), ("Softsign", -2, 2), ("Tan", -1, 1), ("Tanh", -3, 3), ("HardSigmoid", -6, 6), ("Elu", -2, 2),
        ("Selu", -2, 2), ("Celu", -2, 2), ("LeakyRelu", -2, 2), ("ThresholdedRelu", -2, 2), ("Shrink", -2, 2),
    ]
]  # fmt: skip

ELEMENTWISE = [
    *UNARY,
    case("HardSwish", 14, x(2, 9, low=-6, high=6)),
    case("Mish", 18, x(2, 9, low=-6, high=6)),
    case("Gelu", 20, x(2, 9)),
    case("Gelu", 20, x(2, 9), approximate="tanh"),
    case("HardSigmoid", 13, x(2, 9, low=-6, high=6), alpha=1 / 6, beta=0.5),
    case("Elu", 13, x(2, 3), alpha=0.5),
    case("Selu", 13, x(2, 3), alpha=1.2, gamma=0.7),
    case("LeakyRelu", 13, x(2, 3), alpha=0.3),
    case("ThresholdedRelu", 13, x(2, 3), alpha=0.3),
    case("Shrink", 13, x(2, 3), bias=0.2, lambd=0.7),
    case("Round", 13, k([0.5, 1.5, 2.5, -0.5, -1.5], "float32")),
    *(case(op, 13, x(2, 1, 3), x(4, 3)) for op in ("Add", "Sub", "Mul", "Max", "Min", "Mean", "Sum")),
    *(case(op, 13, x(2, 3), w(3)) for op in ("Add", "Sub", "Mul", "Max", "Min")),
    case("Div", 13, x(2, 3), w(3, low=0.5, high=2)),
    case("Div", 13, x(2, 9, dtype=I, low=-20, high=20), k([3] * 9)),
    case("Max", 13, x(2, 3), w(3), w(2, 1)),
    case("Sum", 13, x(2, 3), w(3), w(2, 1)),
    case("Max", 13, x(2, 3)),
    case("Mod", 13, x(9, dtype=I, low=-9, high=9), k([4] * 9)),
    case("Mod", 13, x(9, dtype=I, low=-9, high=9), k([-4] * 9)),
    case("Mod", 13, x(9, low=-9, high=9), k([4] * 9, "float32"), fmod=1),
    case("Pow", 13, x(2, 3, low=0.1), k(2, "float32")),
    case("Pow", 13, x(2, 3, low=0.1), k([0.5, 1, 3], "float32")),
    case("Pow", 13, x(2, 3, low=0.1), k(3)),
    case("Abs", 13, x(9, dtype=I, low=-9, high=9)),
    case("Pow", 13, x(4, dtype=I, low=0, high=4), k(2)),
    case("Clip", 7, x(2, 9), min=-0.5, max=1.0),
    case("Clip", 7, x(2, 9), max=1.0),
    case("Clip", 13, x(2, 9), k(-0.5, "float32"), k(1, "float32")),
    case("Clip", 13, x(2, 9), k(-0.5, "float32")),
    case("Clip", 13, x(2, 9), None, k(0.5, "float32")),
    case("Clip", 13, x(2, 9), x(), x(low=2, high=3)),
    case("Clip", 13, x(2, 9, dtype=I, low=-9, high=9), k(-3), k(4)),
    *(case(op, 13, x(2, 9, dtype=I, low=-2, high=2), x(9, dtype=I, low=-2, high=2)) for op in ("Equal", "Less", "Greater")),
    *(case(op, 16, x(2, 3), x(3)) for op in ("LessOrEqual", "GreaterOrEqual")),
    *(case(op, 13, x(2, 9, dtype=B), x(9, dtype=B)) for op in ("And", "Or", "Xor", "Equal")),
    case("Not", 13, x(2, 9, dtype=B)),
    case("Where", 13, x(2, 9, dtype=B), x(9), w(2, 1)),
    case("IsInf", 10, k([1, np.inf, -np.inf, np.nan], "float32")),
    case("IsInf", 10, k([1, np.inf, -np.inf, np.nan], "float32"), detect_negative=0),
    case("IsInf", 10, k([1, np.inf, -np.inf, np.nan], "float32"), detect_positive=0),
    case("Cast", 13, x(2, 9, low=-9, high=9), to=7),
    case("Cast", 13, x(2, 9, dtype=I, low=-2, high=2), to=9),
    case("Cast", 13, x(2, 9, dtype=B), to=1),
    case("CastLike", 15, x(2, 9, low=-9, high=9), k(0, "int32")),
    case("BitShift", 11, x(9, dtype="uint8", low=0, high=255), k([2] * 9, "uint8"), direction="RIGHT"),
    case("BitShift", 11, x(9, dtype="uint8", low=0, high=255), k([2] * 9, "uint8"), direction="LEFT"),
    *(case(op, 18, x(9, dtype="int32", low=-9, high=99), x(9, dtype="int32", low=0, high=9))
        for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")),
    case("BitwiseNot", 18, x(9, dtype="int32", low=-9, high=99)),
    case("PRelu", 13, x(*IMAGE), w(4, 1, 1)),
    case("PRelu", 13, x(*IMAGE), w(1)),
    case("PRelu", 13, x(*IMAGE), w(9, 8)),
    case("PRelu", 13, x(2, 3), x(3)),
]  # fmt: skip

SOFT = [
    *(case(op, opset, x(2, 3, 4)) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (11, 13)),
    *(case(op, opset, x(2, 3, 4), axis=axis) for op in ("Softmax", "LogSoftmax", "Hardmax") for opset in (7, 13)
        for axis in (0, 1, 2)),
    case("Softmax", 11, x(2, 3, 4), axis=-2),
]  # fmt: skip

CONVOLUTIONS = [
    case("Conv", 13, x(*IMAGE), w(6, 4, 3, 3), w(6)),
    case("Conv", 13, x(*IMAGE), w(6, 4, 3, 3), w(6), pads=[1, 1, 1, 1], strides=[2, 2]),
    case("Conv", 13, x(*IMAGE), w(6, 4, 3, 2), pads=[0, 1, 2, 0]),
    case("Conv", 13, x(*IMAGE), w(4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
    case("Conv", 13, x(*IMAGE), w(8, 2, 3, 3), w(8), group=2, dilations=[2, 1]),
    *(case("Conv", 13, x(*IMAGE), w(6, 4, 3, 2), auto_pad=way, strides=[2, 1])
        for way in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    case("Conv", 13, x(*IMAGE), x(6, 4, 3, 3), x(6), pads=[1, 1, 1, 1]),
    case("Conv", 13, x(1, 4, 9), w(6, 4, 3), w(6), pads=[2, 0], dilations=[2]),
    case("Conv", 13, x(1, 2, 5, 5, 5), w(3, 2, 2, 2, 2), w(3), strides=[1, 2, 1]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 2, 2), w(3), strides=[2, 2]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), w(3), strides=[2, 2], pads=[1, 1, 1, 1]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), w(3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), strides=[2, 3], pads=[0, 1, 2, 0]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), strides=[3, 2], output_shape=[27, 16]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER"),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER"),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 1, 3, 3), w(4), group=4, dilations=[1, 2]),
    case("ConvTranspose", 13, x(*IMAGE), w(4, 3, 1, 1), w(3), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", 13, x(*IMAGE), x(4, 3, 3, 3), strides=[2, 2]),
    case("ConvTranspose", 13, x(1, 4, 7), w(4, 3, 4), w(3), strides=[2], pads=[1, 1]),
]  # fmt: skip

POOLS = [
    *(case(op, 13, x(*IMAGE), kernel_shape=[3, 2], **more)
      for op in ("MaxPool", "AveragePool")
      for more in ({}, {"strides": [2, 2]}, {"pads": [1, 0, 1, 1]}, {"pads": [1, 1, 0, 0], "strides": [2, 2]},
                   {"ceil_mode": 1, "strides": [2, 3]}, {"ceil_mode": 1, "strides": [2, 3], "pads": [1, 1, 1, 1]},
                   {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]})),
    case("MaxPool", 13, x(*IMAGE), kernel_shape=[2, 2], dilations=[2, 1]),
    case("MaxPool", 13, x(1, 4, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("MaxPool", 13, x(*IMAGE, dtype="uint8", low=0, high=255), kernel_shape=[2, 2]),
    case("MaxPool", 13, x(1, 2, 5, 5, 5), kernel_shape=[2, 2, 2]),
    *(case("AveragePool", 13, x(*IMAGE), kernel_shape=[3, 3], count_include_pad=1, **more)
      for more in ({"pads": [1, 1, 1, 1]}, {"pads": [1, 1, 1, 1], "ceil_mode": 1, "strides": [2, 2]},
          {"auto_pad": "SAME_UPPER"})),
    case("AveragePool", 13, x(1, 4, 9), kernel_shape=[3], strides=[2], pads=[1, 1]),
    case("LpPool", 13, x(*IMAGE), kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0]),
    *(case(op, 13, x(*shape)) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool") for shape in (IMAGE, (2, 3, 5))),
]  # fmt: skip

NORMS = [
    case("BatchNormalization", 9, x(*IMAGE), w(4), w(4), w(4), w(4, low=0.5, high=2), epsilon=1e-3),
    case("BatchNormalization", 15, x(2, 4, 5), w(4), w(4), w(4), w(4, low=0.5, high=2)),
    case("BatchNormalization", 15, x(2, 4), w(4), w(4), w(4), w(4, low=0.5, high=2)),
    case("BatchNormalization", 15, x(*IMAGE), x(4), w(4), w(4), w(4, low=0.5, high=2)),
    case("InstanceNormalization", 13, x(2, 4, 9, 8), w(4), w(4), epsilon=1e-3),
    case("InstanceNormalization", 13, x(2, 4, 9), w(4), w(4)),
    case("LayerNormalization", 17, x(2, 3, 4), w(4), w(4)),
    case("LayerNormalization", 17, x(2, 3, 4), w(3, 4), w(3, 4), axis=1),
    case("LayerNormalization", 17, x(2, 3, 4), x(4), epsilon=1e-2),
    case("LayerNormalization", 17, x(2, 3, 4), w(4), w(4), outputs=3),
    case("GroupNormalization", 21, x(2, 4, 3, 3), w(4), w(4), num_groups=2),
    case("LpNormalization", 13, x(2, 3, 4), axis=1, p=1),
    case("LpNormalization", 13, x(2, 3, 4), p=2),
    case("LRN", 13, x(*IMAGE), size=3, alpha=0.1, beta=0.5, bias=2.0),
    case("MeanVarianceNormalization", 13, x(2, 4, 3, 3)),
]

LINEAR = [
    case("MatMul", 13, x(2, 3), w(3, 4)),
    case("MatMul", 13, x(2, 5, 3), w(3, 4)),
    case("MatMul", 13, w(4, 2), x(2, 3)),
    case("MatMul", 13, x(2, 5, 3), x(2, 3, 4)),
    case("MatMul", 13, x(3), w(3, 4)),
    case("MatMul", 13, x(2, 3), w(3)),
    case("Gemm", 13, x(2, 3), w(3, 4), w(4)),
    case("Gemm", 13, x(2, 3), w(4, 3), w(4), transB=1, alpha=0.5, beta=2.0),
    case("Gemm", 13, x(3, 2), w(3, 4), w(1), transA=1),
    case("Gemm", 13, x(2, 3), w(3, 4), w(1, 4)),
    case("Gemm", 13, x(2, 3), w(3, 4), w(2, 1)),
    case("Gemm", 13, x(2, 3), w(3, 4)),
    case("Gemm", 13, x(2, 3), x(3, 4), x(2, 4), alpha=0.5),
    case("Einsum", 13, x(2, 3, 4), w(2, 4, 5), equation="bij, bjk -> bik"),
    case("Einsum", 13, x(2, 3, 4), equation="bij->bji"),
]

SHAPES = [
    case("Reshape", 13, x(2, 3, 4), k([2, 12])),
    case("Reshape", 13, x(2, 3, 4), k([0, -1])),
    case("Reshape", 13, x(2, 3, 4), k([4, -1])),
    case("Reshape", 13, x(1, 1), k([], "int64")),
    case("Reshape", 14, x(0, 3, dtype="float32"), k([0, 4]), allowzero=1),
    *(case("Flatten", 13, x(2, 3, 4), axis=axis) for axis in (0, 1, 2, -1)),
    case("Squeeze", 11, x(1, 3, 1), axes=[0]),
    case("Squeeze", 13, x(1, 3, 1), k([-1])),
    case("Squeeze", 13, x(1, 3, 1)),
    case("Unsqueeze", 11, x(2, 3), axes=[0, 3]),
    case("Unsqueeze", 13, x(2, 3), k([-1, 1])),
    case("Transpose", 13, x(2, 3, 4)),
    case("Transpose", 13, x(2, 3, 4), perm=[1, 0, 2]),
    case("Concat", 13, x(2, 3), w(2, 1), x(2, 2), axis=-1),
    case("Split", 11, x(6, 2), split=[1, 2, 3], outputs=3),
    case("Split", 13, x(6, 2), k([4, 2]), outputs=2),
    case("Split", 13, x(2, 6), axis=1, outputs=3),
    case("Split", 18, x(7, 2), num_outputs=3, outputs=3),
    case("Slice", 9, x(5, 6), starts=[1, -3], ends=[4, 100], axes=[0, 1]),
    case("Slice", 13, x(5, 6), k([1]), k([4])),
    case("Slice", 13, x(5, 6), k([-1, 0]), k([-100, 6]), k([0, 1]), k([-2, 3])),
    case("Slice", 13, x(5, 6), k([3]), k([3]), k([1])),
    case("Slice", 13, x(5, 6), k([-6]), k([-6]), k([0]), k([-1])),
    case("Slice", 13, x(1, 4, 8, 8), k([0, 1]), k([100, 100]), k([2, 3]), k([2, 2])),
    case("Expand", 13, x(3, 1), k([2, 3, 4])),
    case("Expand", 13, x(2, 3), k([1])),
    case("Tile", 13, x(2, 3), k([2, 1])),
    case("Shape", 13, x(2, 3, 4)),
    case("Shape", 15, x(2, 3, 4), start=1, end=-1),
    case("Size", 13, x(2, 3, 4)),
    case("ConstantOfShape", 13, k([2, 3])),
    case("Range", 13, k(1), k(9), k(3)),
    case("Range", 13, k(1, "float32"), k(-1, "float32"), k(-0.3, "float32")),
    case("DepthToSpace", 13, x(1, 8, 2, 3), blocksize=2),
    case("DepthToSpace", 13, x(1, 8, 2, 3), blocksize=2, mode="CRD"),
    case("SpaceToDepth", 13, x(1, 2, 4, 6), blocksize=2),
    case("Trilu", 14, x(4, 4)),
    case("Trilu", 14, x(2, 4, 5), k(-1), upper=0),
    case("EyeLike", 9, x(3, 4), k=1),
    case("Dropout", 7, x(2, 3), ratio=0.5),
    case("Dropout", 13, x(2, 3), k(0.5, "float32"), k(False, B)),
    *(case("Pad", 10, x(2, 3, 5), pads=[0, 1, 2, 1, 0, 1], mode=mode) for mode in ("constant", "reflect", "edge")),
    *(
        case("Pad", 13, x(1, 3, 5, 5), k([0, 0, 2, 1, 0, 0, 0, 3]), mode=mode)
        for mode in ("constant", "reflect", "edge")
    ),
    case("Pad", 13, x(2, 3), k([1, 0, 0, 2]), k(1.5, "float32")),
    case("Pad", 13, x(2, 5), k([0, -1, 0, -2])),
    case("Pad", 18, x(2, 5), k([1, 2]), None, k([1])),
    case("Pad", 19, x(2, 5), k([0, 2, 0, 1]), mode="wrap"),
]

SELECTIONS = [
    case("Gather", 13, x(5, 6), k([0, -1, 2])),
    case("Gather", 13, x(5, 6), k([[0, 3], [1, 1]]), axis=1),
    case("Gather", 13, x(5, 6), k(2), axis=1),
    case("Gather", 13, x(5, 6), k([1, 2, 3])),
    case("Gather", 13, w(5, 6), x(2, 3, dtype=I, low=0, high=5)),
    case("Gather", 13, w(5, 6, 2), x(2, 3, dtype=I, low=-5, high=5)),
    case("Gather", 13, x(5, 6), x(4, dtype="int32", low=-6, high=6), axis=1),
    case("GatherElements", 13, x(3, 4), k([[0, -1, 2], [1, 1, 0]]), axis=1),
    case("GatherND", 13, x(3, 4, 2), k([[0, 1], [-1, 2]])),
    case("GatherND", 13, x(2, 3, 4), k([[1], [0]]), batch_dims=1),
    case("ScatterElements", 13, x(3, 4), k([[0, -1]]), w(1, 2), axis=1),
    *(case("ScatterElements", 18, x(3, 4), k([[0, 0]]), w(1, 2), axis=1, reduction=way)
        for way in ("add", "mul", "max", "min")),
    case("ScatterND", 13, x(3, 4, 2), k([[0, 1], [-1, 2]]), w(2, 2)),
    case("ScatterND", 18, x(3, 4), k([[0], [0]]), w(2, 4), reduction="add"),
    case("OneHot", 13, x(3, dtype=I, low=-2, high=6), k(4), k([0, 1], "float32")),
    case("OneHot", 13, x(2, 3, dtype=I, low=0, high=4), k(4), k([-1, 2], "float32"), axis=1),
    case("Compress", 11, x(3, 4), k([True, False, True], B), axis=0),
    case("Compress", 11, x(3, 4), k([False, True, True], B)),
    case("ReverseSequence", 10, x(4, 3, 2), k([4, 1, 2])),
    case("ReverseSequence", 10, x(3, 4, 2), k([4, 4, 4]), time_axis=1, batch_axis=0),
    case("CumSum", 14, x(3, 4), k(1)),
    case("CumSum", 14, x(3, 4), k(0), exclusive=1, reverse=1),
    *(case(op, 13, x(3, 4), axis=1, **more) for op in ("ArgMax", "ArgMin")
        for more in ({}, {"keepdims": 0}, {"select_last_index": 1})),
    case("ArgMax", 13, k([[1, 1, 0]], "float32"), axis=1, select_last_index=1),
    case("TopK", 10, x(3, 6), k([2]), outputs=2),
    case("TopK", 11, x(3, 6), k([2]), outputs=2, axis=0, largest=0),
    case("TopK", 11, k([[1, 2, 2, 1, 2]], "float32"), k([4]), outputs=2),
]  # fmt: skip

REDUCTIONS = [
    *(case(op, 11, x(2, 3, 4, low=0.1), axes=[1, -1]) for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceLogSumExp")),
    *(case(op, 18, x(2, 3, 4, low=0.1), k([1]), keepdims=keep)
      for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
                 "ReduceLogSumExp", "ReduceSumSquare")
      for keep in (0, 1)),
    case("ReduceSum", 13, x(2, 3, 4), k([0, 2])),
    case("ReduceSum", 13, x(2, 3, 4)),
    case("ReduceSum", 13, x(2, 3, 4), noop_with_empty_axes=1),
    case("ReduceMean", 13, x(1, 4, 3, 3), axes=[2, 3], keepdims=0),
    case("ReduceMean", 13, x(2, 3, dtype="int32", low=-9, high=9), axes=[1]),
    case("ReduceMax", 18, x(2, 3, dtype=I, low=-9, high=9), k([1])),
]  # fmt: skip

SIZES = [None, None, k([1, 2, 7, 5])]
RESIZES = [
    case("Upsample", 7, x(1, 2, 3, 4), scales=[1.0, 1.0, 2.0, 3.0], mode="nearest"),
    case("Upsample", 9, x(1, 2, 3, 4), k([1, 1, 2, 2], "float32"), mode="linear"),
    case("Resize", 10, x(1, 2, 3, 4), k([1, 1, 2, 1.5], "float32"), mode="nearest"),
    *(case("Resize", 13, x(1, 2, 4, 6), *SIZES, mode=mode, coordinate_transformation_mode=way)
      for mode in ("linear", "cubic")
      for way in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")),
    *(case("Resize", 13, x(1, 2, 4, 6), *SIZES, mode="nearest", coordinate_transformation_mode=way, nearest_mode=near)
      for way in ("half_pixel", "asymmetric", "align_corners")
      for near in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")),
    case("Resize", 13, x(1, 1, 7, 18), None, None, k([1, 1, 2, 21]), mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="round_prefer_ceil"),
    case("Resize", 13, x(1, 2, 4, 6), None, k([1, 1, 0.6, 2.3], "float32"), mode="linear"),
    case("Resize", 13, x(1, 2, 4, 6), None, k([1, 1, 2, 2], "float32"), mode="linear"),
    case("Resize", 13, x(1, 2, 4, 6), None, k([1, 1, 2, 2], "float32"), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5),
    case("Resize", 13, x(1, 2, 6), None, k([1, 1, 2], "float32"), mode="linear"),
    case("Resize", 18, x(1, 2, 4, 6), None, None, k([8, 9]), mode="linear", axes=[2, 3]),
    case("Resize", 18, x(1, 2, 8, 9), None, None, k([3, 4]), mode="linear", axes=[2, 3], antialias=1),
    case("Resize", 18, x(1, 2, 4, 6), None, None, k([7, 7]), mode="nearest", axes=[2, 3],
        keep_aspect_ratio_policy="not_larger"),
    case("GridSample", 16, x(1, 2, 4, 5), x(1, 3, 3, 2, low=-1, high=1)),
    case("GridSample", 16, x(1, 2, 4, 5), x(1, 3, 3, 2, low=-1, high=1), mode="nearest", padding_mode="border"),
]  # fmt: skip


def recurrent(op: str, gates: int, directions: int = 1, batch: int = 1, size: int = 5, outputs: int = 2,
    **attributes: Any) -> Case:  # fmt: skip
    weights = (w(directions, gates * size, 3), w(directions, gates * size, size), w(directions, 2 * gates * size))
    return case(op, 14, x(4, batch, 3), *weights, outputs=outputs, hidden_size=size, **attributes)


RECURRENT = [
    *(recurrent(op, gates, count, batch, direction=way)
      for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1))
      for way, count in (("forward", 1), ("reverse", 1), ("bidirectional", 2))
      for batch in (1, 2)),
    recurrent("GRU", 3, linear_before_reset=1),
    recurrent("RNN", 1, activations=["Relu"]),
    recurrent("LSTM", 4, outputs=3, clip=0.5),
    recurrent("LSTM", 4, activations=["HardSigmoid", "Tanh", "Relu"], activation_alpha=[0.3], activation_beta=[0.4]),
    case("LSTM", 14, x(4, 1, 3), w(1, 20, 3), w(1, 20, 5), w(1, 40), k([4], "int32"), x(1, 1, 5), x(1, 1, 5), w(1, 15),
        hidden_size=5, outputs=3),
    case("GRU", 14, x(4, 1, 3), w(1, 15, 3), w(1, 15, 5), None, None, w(1, 1, 5), hidden_size=5, outputs=2),
]  # fmt: skip

QUANTIZED = [
    case("QuantizeLinear", 13, x(2, 9), k(0.1, "float32"), k(128, "uint8")),
    case("QuantizeLinear", 13, x(2, 4), k([0.1, 0.2, 0.3, 0.01], "float32"), k([0, 1, -1, 0], "int8"), axis=1),
    case("DequantizeLinear", 13, x(2, 9, dtype="uint8", low=0, high=255), k(0.1, "float32"), k(128, "uint8")),
    case("DequantizeLinear", 13, x(3, 4, dtype="int8", low=-128, high=127), k([0.1, 0.2, 0.3], "float32"), k([1, 2, 3],
        "int8"), axis=0),
    case("DequantizeLinear", 13, x(3, 4, dtype="int32", low=-999, high=999), k(0.01, "float32")),
]  # fmt: skip

SIGNALS = [
    case("DFT", 17, x(1, 8, 1), axis=1),
    case("DFT", 17, x(1, 8, 1), axis=1, onesided=1),
    case("DFT", 17, x(1, 8, 2), axis=1, inverse=1),
    case("DFT", 20, x(1, 8, 3, 1), None, k(1)),
    case("STFT", 17, x(1, 64), k(8), w(16)),
    case("STFT", 17, x(1, 64, 1), k(4), None, k(16), onesided=1),
]

CASES = [
    *ELEMENTWISE, *SOFT, *CONVOLUTIONS, *POOLS, *NORMS, *LINEAR, *SHAPES, *SELECTIONS, *REDUCTIONS, *RESIZES, *RECURRENT,
    *QUANTIZED, *SIGNALS,
]  # fmt: skip
REFUSED = {"ConvInteger", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
ELSEWHERE = {"Constant", "RMSNormalization", "Scatter", "Swish"}
"""Constant: no input; the others: not in onnxruntime's opsets here, or an old name. ONNX's own suite has them."""


@pytest.mark.parametrize("row", CASES, ids=str)
def test_an_operator_answers_as_onnxruntime_does(row: Case, build: Any, agree: Any) -> None:
    order = [f"i{at}" if given is not None else "" for at, given in enumerate(row.inputs)]
    named = {name: given for name, given in zip(order, row.inputs, strict=True) if given is not None}
    inputs = {name: given.array for name, given in named.items() if not given.constant}
    constants = {name: given.array for name, given in named.items() if given.constant}
    agree(build(row.op, row.opset, inputs, constants, order, row.outputs, **row.attributes), inputs)


def test_no_operator_is_left_out() -> None:
    from edgepack.convert.onnx_to_torch import translated_operators

    assert translated_operators() - {row.op for row in CASES} == REFUSED | ELSEWHERE
