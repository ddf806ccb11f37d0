"""Make a model smaller: prune and recover a torch module, quantize a TFLite or ONNX file."""

from edgepack.compress.modules import HostTime, count, measure
from edgepack.compress.operators import Operator, Quantized
from edgepack.compress.pruning import Pruned, prune
from edgepack.compress.quantization import Activations, activations_for, quantize
from edgepack.compress.recovery import recover

__all__ = [
    "Activations",
    "HostTime",
    "Operator",
    "Pruned",
    "Quantized",
    "activations_for",
    "count",
    "measure",
    "prune",
    "quantize",
    "recover",
]
