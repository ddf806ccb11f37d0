"""Make a model smaller: prune and recover a torch module, quantize a TFLite or ONNX file."""

from edgepack.compress.calibration import Passes
from edgepack.compress.crew import ALONE, Crew, gathered, rank_in_crew, size_of_crew
from edgepack.compress.modules import HostTime, count, measure
from edgepack.compress.operators import Operator, Quantized
from edgepack.compress.pruning import Pruned, prune
from edgepack.compress.quantization import quantize
from edgepack.compress.recovery import recover
from edgepack.compress.tracking import Tracker, tracking

__all__ = [
    "ALONE",
    "Crew",
    "HostTime",
    "Operator",
    "Passes",
    "Pruned",
    "Quantized",
    "Tracker",
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
