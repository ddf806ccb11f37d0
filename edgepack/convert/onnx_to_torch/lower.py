"""A translated module to a TFLite file, and if that fails, which operator it was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from edgepack.convert.onnx_to_torch.module import OnnxModule
from edgepack.convert.onnx_to_torch.node import Tensor


def lower(module: OnnxModule, inputs: Sequence[Tensor], out: Path, source: str) -> None:
    import litert_torch

    wide = any(tensor.dtype in (torch.int64, torch.float64) for tensor in (*inputs, *_outputs(module, inputs)))
    litert_torch.convert(module, tuple(inputs), enable_x64=wide).export(str(out))


def _outputs(module: OnnxModule, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    with torch.no_grad():
        answer = module(*inputs)
    return answer if isinstance(answer, tuple) else (answer,)
