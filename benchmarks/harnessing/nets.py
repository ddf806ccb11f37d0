"""Two models for each runtime, written operator by operator: one that computes nothing, one of about a millisecond.

The latter is a chain of products so small that no runtime shares them out between threads: its time does not depend on how many.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgepack.device import null_models

WIDTH = 64
LINKS = {"onnxruntime": 2000, "litert": 1400}
SUFFIX = {"onnxruntime": "onnx", "litert": "tflite"}


def nothing(runtime: str, folder: Path) -> Path:
    path = folder / f"nothing.{SUFFIX[runtime]}"
    path.write_bytes(null_models.of(runtime))
    return path


def chain(runtime: str, folder: Path) -> Path:
    """y = x · w · w · … over float32[1, 64], w orthogonal so that nothing grows or dies out."""
    path = folder / f"chain.{SUFFIX[runtime]}"
    weights, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((WIDTH, WIDTH)))
    write = _onnx if runtime == "onnxruntime" else _tflite
    path.write_bytes(write(weights.astype(np.float32), LINKS[runtime]))
    return path


def _onnx(weights: np.ndarray, links: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    names = ["x", *(f"h{index}" for index in range(1, links)), "y"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(links)]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, WIDTH]) for name in "xy")
    graph = helper.make_graph(nodes, "chain", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


def _tflite(weights: np.ndarray, links: int) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    stored = schema.BufferT()
    stored.data = np.frombuffer(weights.tobytes(), np.uint8)
    model.version, model.buffers = 3, [schema.BufferT(), stored]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    model.operatorCodes = [code]
    graph.tensors = [_tensor(schema, "w", [WIDTH, WIDTH], 1)]
    graph.tensors += [_tensor(schema, f"t{index}", [1, WIDTH], 0) for index in range(links + 1)]
    graph.operators = []
    for index in range(links):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [index + 1, 0, -1], [index + 2]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [1], [links + 1]
    model.subgraphs = [graph]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_entry(schema, "x", 1)], [_entry(schema, "y", links + 1)]
    model.signatureDefs = [signature]
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(schema, name: str, shape: list[int], buffer: int):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer, tensor.type = name, shape, buffer, schema.TensorType.FLOAT32
    return tensor


def _entry(schema, name: str, index: int):
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
