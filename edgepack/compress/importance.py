"""Which channels matter least: scores by torch-pruning, and how many go from each group (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

from edgepack.compress import modules
from edgepack.compress.losses import Goal, loss_of
from edgepack.compress.training import check_batch
from edgepack.errors import InputError
from edgepack.recipe import Importance, Prune
from edgepack.samples import TrainingData

Gradients = dict[str, Any]
_BATCHES = 8


def kept_channels(channels: int, sparsity: float, multiple: int) -> int:
    """How many of a layer's channels stay: (1 − sparsity) of them to the nearest multiple, at least one multiple, at most all."""
    wanted = channels * (1 - sparsity)
    return min(channels, max(multiple, int(wanted / multiple + 0.5) * multiple))


def removals(groups: Sequence[Sequence[float]], step: Prune) -> list[list[int]]:
    """The channels that go from each group, the least important first, given every group's scores (mean 1 in each).

    With the scope `layer` each group loses the share; with `global` the least of all channels go, so that a group may lose
    anything from none to all but one multiple. Groups without scores lose nothing.
    """
    gone = []
    threshold = _threshold(groups, step.sparsity) if step.scope == "global" else None
    for scores in groups:
        order = sorted(range(len(scores)), key=lambda channel: (scores[channel], channel))
        share = step.sparsity if threshold is None else sum(score < threshold for score in scores) / max(len(scores), 1)
        gone.append(order[: len(scores) - kept_channels(len(scores), share, step.multiple)] if scores else [])
    return gone


def _threshold(groups: Sequence[Sequence[float]], sparsity: float) -> float:
    """The score below which the share `sparsity` of all channels lies."""
    everything = sorted(score for scores in groups for score in scores)
    return everything[min(int(len(everything) * sparsity + 0.5), len(everything) - 1)] if everything else 0.0


def gradients(module: Any, training: TrainingData | None, importance: Importance) -> Gradients:
    """Of the labels' loss over a few batches, by the parameters' names; empty where the importance needs none.

    Raises InputError where `taylor` is asked for without labelled training data.
    """
    if importance != "taylor":
        return {}
    known = {name: parameter for name, parameter in module.named_parameters() if parameter.is_floating_point()}
    before = {name: parameter.requires_grad for name, parameter in known.items()}
    found: Gradients = {}
    for parameter in known.values():
        parameter.requires_grad_(True)
    try:
        for inputs, labels in _labelled(training):
            given = modules.tensors(inputs)
            goal = Goal.of(modules.answer(module, given), labels)
            loss = loss_of(goal, _eval(module, given), modules.answer(module, given), labels, distil=0.0)
            _add(found, list(known), loss, list(known.values()))
    finally:
        for name, parameter in known.items():
            parameter.requires_grad_(before[name])
    return found


def _labelled(training: TrainingData | None) -> Any:
    count = 0
    for inputs, labels in training.batches(0) if training is not None else ():
        if labels is None:
            break
        check_batch(inputs, labels)
        yield inputs, labels
        count += 1
        if count == _BATCHES:
            return
    if not count:
        raise InputError(
            'importance = "taylor" needs labelled training data',
            expected="batches of (x, y), of which gradients are taken",
            advice='give [data] training with labels, or importance = "magnitude"',
        )


def _eval(module: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
    training = module.training
    module.eval()
    try:
        return modules.outputs_of(module(*given))
    finally:
        module.train(training)


def _add(found: Gradients, names: list[str], loss: Any, parameters: list[Any]) -> None:
    import torch

    for name, gradient in zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        if gradient is not None:
            found[name] = found[name] + gradient if name in found else gradient


def scores(group: Any, importance: Importance) -> list[float]:
    """Of each channel of a torch-pruning group, with the mean 1; empty where nothing of the group can be scored.

    magnitude: L2 norm over the whole group (Fang et al. 2023); taylor: first order, Molchanov et al. 2019; norm-scale:
    Liu et al. 2017 (arXiv 1708.06519), for groups that hold a batch norm.
    """
    from torch_pruning import importance as by

    match importance:
        case "magnitude":
            found = by.GroupMagnitudeImportance(p=2)(group)
        case "taylor":
            found = by.GroupTaylorImportance()(group)
        case "norm-scale":
            found = by.BNScaleImportance()(group)
        case _:
            assert_never(importance)
    return [] if found is None else [float(score) for score in found.tolist()]
