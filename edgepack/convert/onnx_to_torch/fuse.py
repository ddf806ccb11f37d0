"""Two steps that are one: a matrix product and its bias, a convolution and the norm behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgepack.convert.onnx_to_torch.module import OnnxModule, Step, parameters_of
from edgepack.convert.onnx_to_torch.node import Tensor

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def add_biases(steps: Sequence[Step], constants: Mapping[int, Tensor], outputs: Collection[int]) -> list[Step]:
    """An `nn.Linear` without a bias followed by an addition of a constant row becomes one with it."""
    merged: dict[str, Step | None] = {}
    for first, second in _pairs(steps, outputs):
        if second.op != "Add" or not isinstance(first.call, nn.Linear) or first.call.bias is not None:
            continue
        others = [slot for slot in second.arguments if slot not in first.results]
        bias = constants.get(others[0]) if len(others) == 1 and others[0] is not None else None
        if bias is None or tuple(bias.shape) != (first.call.out_features,):
            continue
        (first.call.bias,) = parameters_of(bias.clone())
        merged[first.name] = replace(first, results=second.results)
        merged[second.name] = None
    return [kept for step in steps if (kept := merged.get(step.name, step)) is not None]


def fold_batch_norms(module: OnnxModule) -> OnnxModule:
    """The same module, in place, without the batch norms that directly follow a convolution: for inference only.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference" (2018), 3.2
    """
    gone: dict[str, Step | None] = {}
    for first, second in _pairs(module.steps, module.outputs):
        convolution = module.get_submodule(first.name) if first.name in module._modules else None
        norm = module.get_submodule(second.name) if second.name in module._modules else None
        if not isinstance(norm, _BATCH_NORMS) or convolution is None:
            continue
        if isinstance(convolution, _CONVOLUTIONS):
            module.add_module(first.name, fuse_conv_bn_eval(convolution, norm))
        elif isinstance(getattr(convolution, "convolution", None), _CONVOLUTIONS):
            inner: Any = convolution
            inner.convolution = fuse_conv_bn_eval(inner.convolution, norm)
        else:
            continue
        delattr(module, second.name)
        gone[first.name] = replace(first, results=second.results)
        gone[second.name] = None
    module.steps = tuple(kept for step in module.steps if (kept := gone.get(step.name, step)) is not None)
    return module


def _pairs(steps: Sequence[Step], outputs: Collection[int]) -> Iterator[tuple[Step, Step]]:
    """Steps of one result with the only step that reads it."""
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for slot in step.arguments:
            if slot is not None:
                readers.setdefault(slot, []).append(step)
    for step in steps:
        slot = step.results[0] if len(step.results) == 1 else None
        if slot is not None and slot not in outputs and len(readers.get(slot, ())) == 1:
            yield step, readers[slot][0]
