"""What every tensor of a TFLite file holds for a sample, through LiteRT's own interpreter, which is told to keep them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgepack.compress.calibration import Watch
from edgepack.compress.tflite_graph import Graph
from edgepack.runtimes import foreign
from edgepack.samples import Array, Arrays


def watch(data: bytes, graph: Graph) -> Watch:
    """Watch the float tensors of the main subgraph of a file. A sample's arrays are in the order of the graph's inputs."""
    interpreter = open_interpreter(data, keep=True)
    wanted = {graph.names[index]: index for index in _computed(graph)}

    def tensors(batch: Arrays) -> Iterator[tuple[str, Array]]:
        invoke(interpreter, batch)
        for name, index in wanted.items():
            yield name, interpreter.get_tensor(index)

    return tensors


def open_interpreter(data: bytes, *, keep: bool = False) -> Any:
    """LiteRT's interpreter in one thread. keep: every tensor can be read after a run"""
    litert = foreign.import_framework("ai_edge_litert.interpreter", "tflite", "quantizing for TFLite")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that keeping tensors takes memory
        interpreter = litert.Interpreter(model_content=data, num_threads=1, experimental_preserve_all_tensors=keep)
    interpreter.allocate_tensors()
    return interpreter


def invoke(interpreter: Any, batch: Arrays) -> None:
    """Run one sample; open sizes are set to the sample's."""
    for detail, values in zip(interpreter.get_input_details(), batch, strict=True):
        if tuple(detail["shape"]) != values.shape:
            interpreter.resize_tensor_input(detail["index"], values.shape)
            interpreter.allocate_tensors()
    for detail, values in zip(interpreter.get_input_details(), batch, strict=True):
        interpreter.set_tensor(detail["index"], values)
    interpreter.invoke()


def _computed(graph: Graph) -> Iterator[int]:
    seen = {*graph.inputs, *(index for node in graph.nodes for index in node.outputs)}
    return (index for index in sorted(seen) if graph.types[index] == "FLOAT32" and _holds_values(graph, index))


def _holds_values(graph: Graph, index: int) -> bool:
    shape = graph.model.subgraphs[0].tensors[index].shape
    return shape is not None and 0 not in np.asarray(shape)
