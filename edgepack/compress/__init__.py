"""Make a model smaller: prune and recover a torch module, quantize a TFLite or ONNX file."""

from edgepack.compress.operators import Operator, Quantized
from edgepack.compress.quantization import Activations, activations_for, quantize

__all__ = ["Activations", "Operator", "Quantized", "activations_for", "quantize"]
