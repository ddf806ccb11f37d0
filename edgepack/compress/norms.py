"""Batch norms' statistics, estimated anew: running averages lag behind weights that moved."""

from __future__ import annotations

from typing import Any

from edgepack.compress import modules
from edgepack.samples import TrainingData


def estimate_again(module: Any, training: TrainingData, batches: int) -> None:
    """The mean and variance of every batch norm over the first `batches` of the training data, weights untouched.

    Cumulative averages as in Izmailov et al. 2018 (arXiv 1803.05407, `torch.optim.swa_utils.update_bn`).
    """
    import torch

    kind = torch.nn.modules.batchnorm._BatchNorm
    norms = [layer for layer in module.modules() if isinstance(layer, kind) and layer.track_running_stats]
    if not norms:
        return
    momenta = [layer.momentum for layer in norms]
    module.eval()
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        seen = 0
        for inputs, _ in training.batches(0):
            if seen == batches:
                break
            if len(inputs[0]) > 1:
                module(*modules.tensors(inputs))
                seen += 1
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    module.eval()
