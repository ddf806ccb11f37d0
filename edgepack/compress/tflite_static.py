"""Integers in and out of each operator of a TFLite file: ai-edge-quantizer, with ranges of our own.

Its own calibration is a moving average (0.95) over samples, which forgets all but the last few dozen and cost 10 to 14 dB on
every net tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from edgepack.compress import tflite, tflite_graph
from edgepack.compress.calibration import Calibration, Passes
from edgepack.compress.channels import least_bounds, with_bounds
from edgepack.compress.correction import Walk
from edgepack.compress.operators import Quantized
from edgepack.compress.ranges import Method, Range
from edgepack.compress.static import Plan, Rest
from edgepack.compress.tflite_graph import Graph
from edgepack.compress.tflite_stages import CHANNEL_AXIS
from edgepack.compress.tflite_walk import TfliteWalk
from edgepack.compress.tflite_watch import watch
from edgepack.errors import InexpressibleError
from edgepack.names import Precision
from edgepack.runtimes import foreign
from edgepack.samples import Samples


class TfliteStatic:
    """See static.Static."""

    rests: tuple[Rest, ...] = ("fp16",)
    """XNNPACK unfolds float16 when it loads a file; 8-bit weights of a float operator it leaves to slower kernels."""

    def __init__(self, source: Path, precision: Precision, calibration: Samples, passes: Passes) -> None:
        """Raises InexpressibleError for a file that is quantized already."""
        self._file, self._precision = source.name, precision
        self._opened = tflite.open_float(source)
        if kind := tflite_graph.control_flow(self._opened.graph):
            raise InexpressibleError(
                f"{source.name}: it holds a {kind}, in which no range can be seen: {precision} is not served for it",
                expected="a graph without control flow (a Keras LSTM or GRU is a loop unless it is built with unroll=True)",
                advice="use w8d, w8 or fp16, or the ONNX format",
            )
        graph = self._opened.graph
        self._alone = (*tflite_graph.final_softmaxes(graph), *tflite_graph.divisions(graph))
        with foreign.converting(f"{source.name}: LiteRT cannot run it tensor by tensor"):
            self.calibration: Calibration = passes.of(
                source, calibration, lambda: watch(self._opened.data, self._opened.graph)
            )

    def ranges(self, method: Method) -> Mapping[str, Range]:
        return self.calibration.ranges(method, 65536 if self._precision == "w8a16" else 256)

    def write(self, plan: Plan) -> bytes:
        data, ranges = self._opened.data, self.ranges(plan.method)
        if self._precision != "w8a16":
            data = _with_fitting_biases(data, ranges, self._file)
        weighted = tflite_graph.storing(self._opened.graph)[1]
        layers = {operator.name for operator in weighted if operator.kind in tflite.CASTABLE}
        alone = (*self._alone, *sorted(plan.in_float - layers))
        recipe = tflite.recipe(self._precision, alone, sorted(plan.in_float & layers))
        seen = {
            name: {"min": np.array([each.low], np.float32), "max": np.array([each.high], np.float32)}
            for name, each in ranges.items()
        }
        with foreign.converting(f"{self._file}: ai-edge-quantizer refuses {self._precision}"):
            return tflite.quantized(data, recipe, seen)

    def rest(self, data: bytes) -> tuple[str, ...]:
        return tflite_graph.in_float16(tflite_graph.read(data, self._file))

    def walk(self, data: bytes, samples: Samples) -> tuple[Walk, Callable[[], bytes]]:
        quantized = tflite_graph.read(data, self._file)
        return TfliteWalk(self._opened.graph, quantized, samples), lambda: tflite_graph.pack(quantized)

    def last_operators(self, output: int) -> tuple[str, ...]:
        return tflite_graph.last_operators(self._opened.graph, output)

    def with_activation(self, layer: str) -> tuple[str, ...]:
        return (layer,)

    def output_of(self, layer: str) -> str:
        return layer

    def finish(self, data: bytes) -> tuple[bytes, Quantized]:
        result = tflite_graph.read(data, self._file)
        done = Quantized("tflite", self._precision, *tflite_graph.computing(result))
        return self._opened.as_given(result, data), done


def _with_fitting_biases(data: bytes, ranges: Mapping[str, Range], file: str) -> bytes:
    """The model with the weights of near-dead channels raised to where their bias fits an int32.

    A bias is stored in steps of (input scale × weight scale). A channel whose weights are all zero gets a weight scale of
    1e-11 from the library, and its bias overflows: the channel loses its value.
    """
    graph = tflite_graph.read(data, file)
    changed = [_raise_channels(graph, node, ranges) for node in graph.nodes if node.kind in CHANNEL_AXIS]
    return tflite_graph.pack(graph) if any(changed) else data


def _raise_channels(graph: Graph, node: tflite_graph.Node, ranges: Mapping[str, Range]) -> bool:
    if len(node.inputs) < 3 or node.inputs[2] < 0 or not all(graph.constant[index] for index in node.inputs[1:3]):
        return False
    tensors, buffers = graph.model.subgraphs[0].tensors, graph.model.buffers
    seen = ranges.get(graph.names[node.inputs[0]])
    if not seen or graph.types[node.inputs[1]] != "FLOAT32":
        return False
    weights_tensor, bias_tensor = tensors[node.inputs[1]], tensors[node.inputs[2]]
    weights = buffers[weights_tensor.buffer].data.view(np.float32).reshape(weights_tensor.shape)
    bias = buffers[bias_tensor.buffer].data.view(np.float32)
    step = _step(seen.low, seen.high)
    raised = with_bounds(weights, least_bounds(bias, step), CHANNEL_AXIS[node.kind])
    if raised is weights:
        return False
    buffers[weights_tensor.buffer].data = np.frombuffer(raised.tobytes(), np.uint8)
    return True


def _step(low: float, high: float) -> float:
    """The size of an asymmetric int8 step over a range that is made to hold zero, never zero itself."""
    return max(max(high, 0.0) - min(low, 0.0), 1e-9) / 255
