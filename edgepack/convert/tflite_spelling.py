"""TFLite operators spelled in a way that tf2onnx understands; what the model computes stays the same.

- tf2onnx 1.17 forgets the bias of a FULLY_CONNECTED whose input it has to flatten (`TflFullyConnectedOp`, keep_num_dims = 0),
  which makes every recurrent or attending net from litert-torch wrong. The flattening is written out as a RESHAPE.
- It does not know EMBEDDING_LOOKUP, which is a GATHER of rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgepack.convert import tflite_files


def spelled_out(data: bytes) -> bytes:
    """A TFLite model that computes the same; the very same bytes where there is nothing to spell out."""
    schema = tflite_files.load_schema()
    model = schema.ModelT.InitFromPackedBuf(bytearray(data), 0)
    changed = False
    for graph in model.subgraphs:
        operators = []
        for operator in graph.operators:
            if _flattens(schema, model, graph, operator):
                operators.append(_flatten(schema, model, graph, operator))
                changed = True
            if _code(model, operator) == schema.BuiltinOperator.EMBEDDING_LOOKUP:
                _gather(schema, model, operator)
                changed = True
            operators.append(operator)
        graph.operators = operators
    return tflite_files.pack(model) if changed else data


def _code(model: Any, operator: Any) -> int:
    return int(model.operatorCodes[operator.opcodeIndex].builtinCode)


def _gather(schema: Any, model: Any, operator: Any) -> None:
    indices, rows = operator.inputs
    operator.opcodeIndex = tflite_files.operator_code(schema, model, schema.BuiltinOperator.GATHER)
    operator.inputs = [rows, indices]
    operator.builtinOptionsType = schema.BuiltinOptions.GatherOptions
    operator.builtinOptions = schema.GatherOptionsT()


def _flattens(schema: Any, model: Any, graph: Any, operator: Any) -> bool:
    if _code(model, operator) != schema.BuiltinOperator.FULLY_CONNECTED or operator.builtinOptions.keepNumDims:
        return False
    shape = graph.tensors[operator.inputs[0]].shape
    return len(operator.inputs) == 3 and operator.inputs[2] >= 0 and shape is not None and len(shape) != 2


def _flatten(schema: Any, model: Any, graph: Any, operator: Any) -> Any:
    """A RESHAPE of the operator's input to `[rows, columns of the weights]`, which the operator reads from now on."""
    source = graph.tensors[operator.inputs[0]]
    columns = int(graph.tensors[operator.inputs[1]].shape[1])
    flat = [math.prod(int(size) for size in source.shape) // columns, columns]
    buffer = schema.BufferT()
    buffer.data = np.array(flat, np.int32).view(np.uint8)
    model.buffers.append(buffer)
    wanted, result = schema.TensorT(), schema.TensorT()
    wanted.type, wanted.shape, wanted.buffer = schema.TensorType.INT32, [2], len(model.buffers) - 1
    result.type, result.shape, result.buffer = source.type, flat, 0
    result.quantization = source.quantization
    first = len(graph.tensors)
    wanted.name, result.name = b"flat_shape#%d" % first, b"flat#%d" % first
    graph.tensors += [wanted, result]
    reshape = schema.OperatorT()
    reshape.opcodeIndex = tflite_files.operator_code(schema, model, schema.BuiltinOperator.RESHAPE)
    reshape.inputs, reshape.outputs = [operator.inputs[0], first], [first + 1]
    reshape.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    reshape.builtinOptions = schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = flat
    operator.inputs = [first + 1, *operator.inputs[1:]]
    return reshape
