"""Train a pruned module back to what its source could do: AdamW, a cosine schedule, and the source as teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from edgepack.compress import modules
from edgepack.compress.losses import Goal, loss_of
from edgepack.errors import InputError
from edgepack.ports import Progress
from edgepack.recipe import Recover
from edgepack.samples import Array, Arrays, TrainingData

_CLIP = 1.0
_WARM_UP_BATCHES = 20
_NOTES = 5
_SMALL_MACS = 10_000_000


def recover(module: Any, teacher: Any, training: TrainingData, step: Recover, progress: Progress) -> Any:
    """A trained copy of `module`, in eval mode; `module` and `teacher` are untouched.

    Labels decide the goal: integers cross entropy, floats mean squared error, none the teacher's answers alone. `step.distil`
    weighs the teacher's answers (softened by a temperature of 2 for classes, Hinton et al. 2015) against the labels.
    The last epoch is kept, where the schedule ends at a learning rate of zero. The same data and seed give the same weights;
    for modules of more than 10 million MACs a sample, with the same number of torch's threads. Raises InputError for an empty
    epoch, labels or inputs that do not fit, and a loss that is not finite.
    """
    student, guide = copy.deepcopy(module), copy.deepcopy(teacher).eval()
    every = max(1, step.epochs // _NOTES)
    with _reproducible(step.seed), _threads(module, training):
        trainer = _Trainer(student, guide, step)
        for epoch in progress.track(range(step.epochs), "recover by training", step.epochs):
            loss = trainer.epoch(epoch, training)
            if (epoch + 1) % every == 0 or epoch + 1 == step.epochs:
                progress.note(f"epoch {epoch + 1}/{step.epochs}: loss {loss:.4f}")
    return student.eval()


def learning_rate(peak: float, done: float, batches: int) -> float:
    """Half a cosine from `peak` to zero over `done` in 0..1, after a linear warm-up over the first batches."""
    return peak * min(1.0, (batches + 1) / _WARM_UP_BATCHES) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class _Trainer:
    """One student on its way: the optimizer, the batches seen so far and how many an epoch has."""

    def __init__(self, student: Any, guide: Any, step: Recover) -> None:
        import torch

        self._student, self._guide, self._step = student, guide, step
        for parameter in student.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        self._optimizer = torch.optim.AdamW(student.parameters(), lr=step.learning_rate, weight_decay=1e-4)
        self._has_norms = any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in student.modules())
        self._batches = 0
        self._per_epoch = 0
        self._goal: Goal | None = None

    def epoch(self, number: int, training: TrainingData) -> float:
        """The mean loss of one pass over the data."""
        self._student.train()
        total, seen = 0.0, 0
        for inputs, labels in training.batches():
            _check_batch(inputs, labels)
            if self._has_norms and len(inputs[0]) == 1:
                continue  # one sample has no variance for a batch norm to learn from
            within = seen / self._per_epoch if self._per_epoch else 0.0
            self._set_rate(
                learning_rate(self._step.learning_rate, (number + within) / self._step.epochs, self._batches)
            )
            total += self._batch(inputs, labels, number)
            seen += 1
            self._batches += 1
        if not seen:
            raise InputError("the training data yields no batch of two samples or more in an epoch")
        self._per_epoch = seen
        return total / seen

    def _batch(self, inputs: Arrays, labels: Array | None, number: int) -> float:
        import torch

        given = modules.tensors(inputs)
        soft = modules.answer(self._guide, given)
        if self._goal is None:
            self._goal = Goal.of(soft, labels)
        answers = modules.outputs_of(self._student(*given))
        loss = loss_of(self._goal, answers, soft, labels, self._step.distil)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(
                f"training after pruning diverged in epoch {number + 1}: the loss is {value}",
                advice="check the training data for extreme values, or lower the learning rate",
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._student.parameters(), _CLIP)
        self._optimizer.step()
        return value

    def _set_rate(self, rate: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = rate


def _threads(module: Any, training: TrainingData) -> AbstractContextManager[None]:
    """One thread for a small module: sums are then taken in the same order everywhere, and more threads would gain nothing."""
    inputs, _ = next(training.batches(), ((), None))
    if not inputs or modules.count(module, tuple(array[:1] for array in inputs))[1] < _SMALL_MACS:
        return modules.one_thread()
    return nullcontext()


def _check_batch(inputs: Arrays, labels: Array | None) -> None:
    import numpy as np

    sizes = {len(array) for array in (*inputs, *(() if labels is None else (labels,)))}
    if len(sizes) != 1:
        raise InputError(f"a training batch has arrays of {sorted(sizes)} samples", expected="the same number in each")
    for array in (*inputs, *(() if labels is None else (labels,))):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError("the training data holds NaN or infinity", advice="drop or repair those samples")


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Every random choice from one seed, deterministic algorithms where torch has them; the caller's state is put back."""
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
