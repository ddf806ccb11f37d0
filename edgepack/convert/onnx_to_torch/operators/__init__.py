"""Every operator with a translation, one table a family. What they compute is what the ONNX operator reference says
(onnx.ai/onnx/operators), for opsets 7 and later; where it is ambiguous, what onnxruntime computes."""

from __future__ import annotations

from edgepack.convert.onnx_to_torch.node import Table
from edgepack.convert.onnx_to_torch.operators.activation import ACTIVATIONS
from edgepack.convert.onnx_to_torch.operators.convolution import CONVOLUTIONS
from edgepack.convert.onnx_to_torch.operators.elementwise import ELEMENTWISE
from edgepack.convert.onnx_to_torch.operators.linear import LINEAR
from edgepack.convert.onnx_to_torch.operators.normalization import NORMALIZATIONS
from edgepack.convert.onnx_to_torch.operators.pad import PADS
from edgepack.convert.onnx_to_torch.operators.pooling import POOLS
from edgepack.convert.onnx_to_torch.operators.quantize import QUANTIZED
from edgepack.convert.onnx_to_torch.operators.recurrent import RECURRENT
from edgepack.convert.onnx_to_torch.operators.reduction import REDUCTIONS
from edgepack.convert.onnx_to_torch.operators.resize import RESIZES
from edgepack.convert.onnx_to_torch.operators.selection import SELECTIONS
from edgepack.convert.onnx_to_torch.operators.shape import SHAPES
from edgepack.convert.onnx_to_torch.operators.signal import SIGNALS

TABLE: Table = {
    **ACTIVATIONS,
    **CONVOLUTIONS,
    **ELEMENTWISE,
    **LINEAR,
    **NORMALIZATIONS,
    **PADS,
    **POOLS,
    **QUANTIZED,
    **RECURRENT,
    **REDUCTIONS,
    **RESIZES,
    **SELECTIONS,
    **SHAPES,
    **SIGNALS,
}
