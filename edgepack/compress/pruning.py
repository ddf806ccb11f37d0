"""Remove whole channels from a torch module, and prove that what is left computes what it must.

Which channels hang together is torch-pruning's dependency graph (Fang et al. 2023, arXiv 2301.12900). It reads an unknown
operation as one that keeps channels in their places; where that is wrong (a shortcut that pads channels), the pruned module
may still run and be another function. So each pruned module is compared with the original whose removed channels are set to
zero: groups that do not match are left whole, and named.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from edgepack.compress import importance, modules
from edgepack.compress.importance import Gradients
from edgepack.errors import InexpressibleError
from edgepack.recipe import Prune
from edgepack.runtimes import foreign
from edgepack.samples import Arrays, TrainingData

_MATCHES = 1e-4
"""Of the outputs' range: how far a pruned module may be from the original with zeroed channels."""


@dataclass(frozen=True)
class Pruned:
    """A narrower copy of a module.

    macs: multiply-accumulate operations of one sample
    milliseconds: of the example in torch on one thread of this machine, see `modules.measure`
    kept: layers whose channels (and those of layers added to them) could not go without changing what the module computes
    unranked: layers that kept their channels because the importance says nothing of them
    """

    module: Any
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    milliseconds_before: float
    milliseconds_after: float
    kept: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (
            f"parameters {self.parameters_before:,} → {self.parameters_after:,}, "
            f"MACs {self.macs_before:,} → {self.macs_after:,}, "
            f"{self.milliseconds_before:.2f} → {self.milliseconds_after:.2f} ms in torch on this host"
        )
        text += f"; not narrowed: {', '.join(self.kept)} and what is added to them" if self.kept else ""
        return f"{text}; without a score, so whole: {', '.join(self.unranked)}" if self.unranked else text


def prune(module: Any, example: Arrays, step: Prune, training: TrainingData | None = None) -> Pruned:
    """A copy of `module` without the share `step.sparsity` of its layers' channels, but the last's; the source is untouched.

    example: one batch of the module's inputs, with which it is traced, checked, counted and timed; training: labelled, needed
    by the importance `taylor`. Raises InexpressibleError where nothing can be removed, for recurrent layers, and where the
    narrower module would not compute what it must; InputError for `taylor` without labels.
    """
    _refuse_recurrent(module)
    inputs = modules.tensors(example)
    kept: tuple[str, ...] = ()
    with modules.one_thread():
        slopes = importance.gradients(module, training, step.importance)
        attempt = _attempt(module, inputs, step, slopes)
        if not attempt.matches:
            kept = tuple(root for root in attempt.roots if not _attempt(module, inputs, step, slopes, (root,)).matches)
            attempt = _attempt(module, inputs, step, slopes, tuple(root for root in attempt.roots if root not in kept))
    _check(attempt, module, step, kept)
    before, after = modules.count(module, example), modules.count(attempt.module, example)
    return Pruned(
        module=attempt.module,
        parameters_before=before[0],
        parameters_after=after[0],
        macs_before=before[1],
        macs_after=after[1],
        milliseconds_before=modules.measure(module, example).milliseconds,
        milliseconds_after=modules.measure(attempt.module, example).milliseconds,
        kept=kept,
        unranked=attempt.unranked,
    )


@dataclass(frozen=True)
class _Attempt:
    """roots: the first layer of each group of channels that was tried; narrowed: whether any lost channels; matches: the
    module runs, and computes what it must; reason: why not; unranked: roots whose channels have no score
    """

    module: Any
    roots: tuple[str, ...]
    narrowed: bool
    matches: bool
    reason: str = ""
    unranked: tuple[str, ...] = ()


def _attempt(
    module: Any, inputs: tuple[Any, ...], step: Prune, slopes: Gradients, only: tuple[str, ...] | None = None
) -> _Attempt:
    narrow = copy.deepcopy(module).eval()
    twin = _Twin(module)
    names = {child: name for name, child in narrow.named_modules()}
    with foreign.converting("pruning: torch-pruning cannot follow the module", advice="build without sparsities"):
        graph, found = _groups(narrow, inputs)
    chosen = [(root, handler) for root, handler in found if only is None or names[root] in only]
    roots = tuple(names[root] for root, _ in chosen)
    narrowed, unranked = False, ()
    try:
        _attach(narrow, slopes)
        with foreign.converting("pruning: torch-pruning cannot rank the channels"):
            scores = [_scores(graph, root, handler, step) for root, handler in chosen]
        unranked = tuple(root for root, found in zip(roots, scores, strict=True) if not found)
        narrow.zero_grad(set_to_none=True)
        for (root, handler), gone in zip(chosen, importance.removals(scores, step), strict=True):
            narrowed |= _narrow(graph, root, handler, gone, twin, names)
        with foreign.converting("pruning: the narrower module does not run"):
            actual = modules.answer(narrow, inputs)
    except InexpressibleError as error:
        return _Attempt(narrow, roots, narrowed, False, error.what)
    expected = modules.answer(twin.module if twin.exact else module, inputs)
    matches = [output.shape for output in actual] == [output.shape for output in expected]
    matches = matches and (not twin.exact or modules.close(expected, actual, _MATCHES))
    reason = "" if matches else "the narrower module computes something else"
    return _Attempt(narrow, roots, narrowed, matches, reason, unranked)


def _groups(narrow: Any, inputs: tuple[Any, ...]) -> tuple[Any, list[tuple[Any, Any]]]:
    """The dependency graph, and the first layer of each group that may lose channels, with how it loses them."""
    import torch
    import torch_pruning

    for parameter in narrow.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the graph is followed through gradients
    graph = torch_pruning.DependencyGraph().build_dependency(narrow, example_inputs=inputs)
    layers = [torch.nn.modules.conv._ConvNd, torch.nn.Linear]
    groups = graph.get_all_groups(ignored_layers=_last_layers(graph), root_module_types=layers)
    return graph, [
        (group[0].dep.target.module, group[0].dep.handler)
        for group in groups
        if not any(_is_grouped(dependency.target.module) for dependency, _ in group)
    ]


def _attach(module: Any, slopes: Gradients) -> None:
    """The gradients to the parameters that they were taken of; zeros where the loss did not reach."""
    if slopes:
        for name, parameter in module.named_parameters():
            parameter.grad = slopes[name].clone() if name in slopes else parameter.detach() * 0


def _scores(graph: Any, root: Any, handler: Any, step: Prune) -> list[float]:
    everything = graph.get_pruning_group(root, handler, list(range(graph.get_out_channels(root))))
    return importance.scores(everything, step.importance)


def _narrow(graph: Any, root: Any, handler: Any, channels: list[int], twin: _Twin, names: dict[Any, str]) -> bool:
    """Remove the channels from every layer of the group. Returns whether any were."""
    if not channels:
        return False
    group = graph.get_pruning_group(root, handler, sorted(channels))
    if not graph.check_pruning_group(group):
        return False
    twin.silence(group, names)
    with foreign.converting("pruning: torch-pruning cannot remove the channels"):
        group.prune()
    return True


def _last_layers(graph: Any) -> list[Any]:
    """The layers whose channels are the module's outputs: those reached backwards from the end without crossing a layer."""
    import torch

    layers = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
    waiting = [node for node in graph.module2node.values() if not node.outputs]
    seen, found = set(waiting), []
    while waiting:
        node = waiting.pop()
        if isinstance(node.module, layers):
            found.append(node.module)
            if not _is_depthwise(node.module):
                continue
        for before in node.inputs:
            if before not in seen:
                seen.add(before)
                waiting.append(before)
    return found


class _Twin:
    """The original module, with every weight that read a removed channel set to zero: what the pruned one must compute.

    exact: False once a group holds a layer that mixes channels (layer norm, attention), for which zeroing is not removing
    """

    def __init__(self, module: Any) -> None:
        self.module = copy.deepcopy(module).eval()
        self.exact = True
        self._layers = dict(self.module.named_modules())
        self._left: dict[str, list[int]] = {}

    def silence(self, group: Any, names: dict[Any, str]) -> None:
        """Zero what a group is about to remove; its indices count the channels that are left so far."""
        import torch

        reading = (torch.nn.modules.conv._ConvNd, torch.nn.Linear)
        passing = (*reading, torch.nn.modules.batchnorm._BatchNorm, torch.nn.PReLU)
        for dependency, indices in group:
            layer = dependency.target.module
            if not isinstance(layer, passing):
                self.exact &= layer not in names  # operations and free parameters are nobody's module
            elif isinstance(layer, reading) and _reads(dependency) and not _is_depthwise(layer):
                self._zero(names[layer], layer, indices)

    def _zero(self, name: str, layer: Any, indices: list[int]) -> None:
        import torch

        twin = self._layers[name]
        axis = 0 if getattr(layer, "transposed", False) else 1
        left = self._left.setdefault(name, list(range(twin.weight.shape[axis])))
        with torch.no_grad():
            twin.weight.index_fill_(axis, torch.tensor([left[index] for index in indices]), 0.0)
        gone = set(indices)
        self._left[name] = [channel for place, channel in enumerate(left) if place not in gone]


def _reads(dependency: Any) -> bool:
    from torch_pruning.pruner import function

    return dependency.handler in (function.prune_conv_in_channels, function.prune_linear_in_channels)


def _is_depthwise(layer: Any) -> bool:
    groups = getattr(layer, "groups", 1)
    return bool(groups > 1 and groups == layer.in_channels == layer.out_channels)


def _is_grouped(layer: Any) -> bool:
    import torch

    return isinstance(layer, torch.nn.modules.conv._ConvNd) and bool(layer.groups > 1) and not _is_depthwise(layer)


def _refuse_recurrent(module: Any) -> None:
    import torch

    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.RNNBase):
            raise InexpressibleError(
                f"pruning: the layer {name or 'itself'} is a {type(layer).__name__}, whose channels cannot be removed",
                advice="build without sparsities, or with w8d, which makes recurrent layers four times smaller",
            )


def _nothing(module: Any, step: Prune, kept: tuple[str, ...]) -> InexpressibleError:
    """Why no channel went."""
    import torch

    norms = (torch.nn.modules.batchnorm._BatchNorm,)
    advice = "build this model without sparsities"
    if step.importance == "norm-scale" and not any(isinstance(layer, norms) for layer in module.modules()):
        why, advice = "it has no batch norm whose scales would tell", 'set [prune] importance = "magnitude" or "taylor"'
    elif kept:
        why = f"the layers {', '.join(kept)} cannot be narrowed"
    else:
        why = f"no layer has channels to spare in multiples of {step.multiple}"
    return InexpressibleError(f"nothing to prune at {step.sparsity:.0%}: {why}", advice=advice)


def _check(attempt: _Attempt, module: Any, step: Prune, kept: tuple[str, ...]) -> None:
    if not attempt.narrowed:
        raise _nothing(module, step, kept)
    if not attempt.matches:
        raise InexpressibleError(
            f"pruning: {attempt.reason}",
            expected="shortcuts that keep channels in their places, or project them with a 1×1 convolution",
            advice="build without sparsities, or replace padded shortcuts by 1×1 convolutions",
        )
    before = sum(parameter.numel() for parameter in module.parameters())
    if sum(parameter.numel() for parameter in attempt.module.parameters()) >= before:
        raise InexpressibleError(f"nothing to prune at {step.sparsity:.0%}: the parameters stay {before:,}")
