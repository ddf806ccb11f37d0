"""Weights of a TFLite file rounded to what its layers answer, where weights alone are integers: a DEQUANTIZE widens them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgepack.compress.channels import in_blocks
from edgepack.compress.correction import walk_through
from edgepack.compress.tflite_graph import Graph, Node
from edgepack.compress.tflite_stages import CHANNEL_AXIS, constant, is_layer
from edgepack.compress.tflite_walk import TfliteWalk, write_constant
from edgepack.samples import Samples


def round_weights(floating: Graph, quantized: Graph, samples: Samples) -> None:
    """Round the weights of every layer to what it answers and correct its bias, in the buffers of `quantized`."""
    direct = _without_widening(quantized)
    _set_steps(floating, direct)
    walk_through(TfliteWalk(floating, direct, samples), rounds=True)


def _without_widening(graph: Graph) -> Graph:
    """The same operators, the layers' weights being the integers themselves, which a walk computes with in float."""
    widened = {
        node.outputs[0]: node.inputs[0]
        for node in graph.nodes
        if node.kind == "DEQUANTIZE" and graph.constant[node.inputs[0]]
    }

    def direct(node: Node) -> Node:
        if node.kind not in CHANNEL_AXIS or node.inputs[1] not in widened:
            return node
        given, weights, *bias = node.inputs
        return replace(node, inputs=(given, widened[weights], *bias))

    nodes = tuple(direct(node) for node in graph.nodes)
    used = {index for node in nodes for index in node.inputs if node.kind != "DEQUANTIZE"}
    return replace(
        graph,
        nodes=tuple(
            Node(node.kind, (), ())
            if node.outputs and node.outputs[0] in widened and node.outputs[0] not in used
            else node
            for node in nodes
        ),
    )


def _set_steps(floating: Graph, direct: Graph) -> None:
    """Give channels of 4 bits steps of least squared error: the library's reach to the largest weight."""
    ours, theirs = ([node for node in graph.nodes if node.kind in CHANNEL_AXIS] for graph in (floating, direct))
    for our, their in zip(ours, theirs, strict=True):
        if direct.types[their.inputs[1]] != "INT4" or not is_layer(floating, our):
            continue
        moved = np.moveaxis(constant(floating, our.inputs[1]), CHANNEL_AXIS[our.kind], 0)
        rows = moved.reshape(len(moved), -1)
        integers, steps = in_blocks(rows, rows.shape[1], 7)
        quantization = direct.model.subgraphs[0].tensors[their.inputs[1]].quantization
        if len(quantization.scale) != len(rows):
            continue
        quantization.scale = steps.reshape(-1)
        values = np.moveaxis(integers.reshape(moved.shape), 0, CHANNEL_AXIS[our.kind])
        write_constant(direct, their.inputs[1], np.ascontiguousarray(values))
