"""Make a model smaller: prune and recover a torch module, quantize a TFLite or ONNX file."""

from edgepack.compress.crew import ALONE, Crew, gathered, rank_in_crew, size_of_crew
from edgepack.compress.modules import HostTime, count, measure
from edgepack.compress.operators import Operator, Quantized
from edgepack.compress.pruning import Pruned, prune
from edgepack.compress.quantization import Activations, activations_for, quantize
from edgepack.compress.recovery import recover
from edgepack.compress.tracking import Tracker, tracking

__all__ = [
    "ALONE",
    "Activations",
    "Crew",
    "HostTime",
    "Operator",
    "Pruned",
    "Quantized",
    "Tracker",
    "activations_for",
    "count",
    "gathered",
    "measure",
    "prune",
    "quantize",
    "rank_in_crew",
    "recover",
    "size_of_crew",
    "tracking",
]
