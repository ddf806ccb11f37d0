"""One module on its way: epochs over the data, towards the labels and the teacher, and what it has learnt of held-out samples."""

from __future__ import annotations

import copy
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.compress import features, modules
from edgepack.compress.checkpoints import Standing, State
from edgepack.compress.crew import Crew
from edgepack.compress.features import Watched
from edgepack.compress.losses import Goal, loss_of
from edgepack.compress.schedules import learning_rate, optimizer_of
from edgepack.errors import InputError
from edgepack.recipe import Training
from edgepack.samples import Array, Arrays, TrainingData

_CLIP = 1.0
_SPLIT = 1 << 16


@dataclass(frozen=True)
class Passed:
    """One epoch. loss: the mean over its batches; held_out: over held-out samples, None where there are none; rate: the last"""

    loss: float
    held_out: float | None
    rate: float


@dataclass(frozen=True)
class Watching:
    """The layers whose outputs are compared, of both modules; none where only answers are."""

    names: tuple[str, ...]
    student: Watched
    teacher: Watched


class Course:
    """A student, its teacher, and where they are. `student` changes with every epoch."""

    def __init__(self, student: Any, teacher: Any, step: Training, crew: Crew, watching: Watching | None) -> None:
        import torch

        self.student = student
        self._teacher, self._step, self._crew, self._watching = teacher, step, crew, watching
        for parameter in student.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        self._optimizer = optimizer_of(step.optimizer, student.parameters(), step.learning_rate, step.weight_decay)
        self._wrapped = crew.wrap(student)
        has_norms = any(isinstance(layer, torch.nn.modules.batchnorm._BatchNorm) for layer in student.modules())
        # One sample has no variance for a batch norm to learn from; every process is to have a share.
        self._least = crew.size * (2 if has_norms else 1)
        self._epochs = self._batches = self._per_epoch = 0
        self._goal: Goal | None = None
        self._best_loss: float | None = None
        self._best_epoch = 0
        self._best: State | None = None

    @property
    def epochs(self) -> int:
        """How many are over."""
        return self._epochs

    @property
    def is_over(self) -> bool:
        waited = self._epochs - self._best_epoch
        impatient = bool(self._step.patience) and self._best_loss is not None and waited >= self._step.patience
        return self._epochs >= self._step.epochs or impatient

    def epoch(self, training: TrainingData) -> Passed:
        """One pass over the data. Raises InputError for data that cannot be learned from."""
        self._wrapped.train()
        loss, seen, rate = 0.0, 0, 0.0
        for inputs, labels in self._lessons(training):
            within = seen / self._per_epoch if self._per_epoch else 0.0
            rate = self._rate((self._epochs + within) / self._step.epochs)
            loss += self._batch(inputs, labels, rate)
            seen += 1
            self._batches += 1
        if not seen:
            raise InputError(
                f"the training data yields no batch of {self._least} samples or more in an epoch"
                + (" besides those held out" if self._step.patience else "")
            )
        self._per_epoch = seen
        self._epochs += 1
        (total,) = self._crew.total(loss)
        passed = Passed(total / seen, self._held_out(training), rate)
        self._remember(passed.held_out)
        return passed

    def finish(self) -> Any:
        """The student, in eval mode: as it was best where training may stop early, else as it is."""
        if self._best is not None:
            self.student.load_state_dict(self._best)
        return self.student.eval()

    def standing(self) -> Standing:
        return Standing(
            epochs=self._epochs,
            batches=self._batches,
            per_epoch=self._per_epoch,
            goal=self._goal.value if self._goal else "",
            student=self.student.state_dict(),
            optimizer=self._optimizer.state_dict(),
            best_loss=self._best_loss,
            best_epoch=self._best_epoch,
            best=self._best,
        )

    def resume(self, standing: Standing) -> None:
        self.student.load_state_dict(standing.student)
        self._optimizer.load_state_dict(standing.optimizer)
        self._epochs, self._batches, self._per_epoch = standing.epochs, standing.batches, standing.per_epoch
        self._goal = Goal(standing.goal)
        self._best_loss, self._best_epoch, self._best = standing.best_loss, standing.best_epoch, standing.best

    def _lessons(self, training: TrainingData) -> Iterator[tuple[Arrays, Array | None]]:
        """What is learned from in this epoch: batches without the samples held out, large enough to be shared."""
        for inputs, labels in training.batches(self._epochs):
            with self._crew.together():
                check_batch(inputs, labels)
            if self._step.patience:
                inputs, labels = _rows(inputs, labels, ~held_out(inputs, self._step.holdout))
            if len(inputs[0]) >= self._least:
                yield inputs, labels

    def _batch(self, inputs: Arrays, labels: Array | None, rate: float) -> float:
        """Learn from one batch. Returns this process's part of its mean loss."""
        import torch

        if self._goal is None:
            self._goal = Goal.of(modules.answer(self._teacher, modules.tensors(inputs)), labels)
        own, own_labels = self._crew.share(inputs, labels)
        weight = len(own[0]) / len(inputs[0])
        with self._crew.together():
            loss = self._loss(self._wrapped, own, own_labels)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise InputError(
                    f"training diverged in epoch {self._epochs + 1}: the loss is {value}",
                    advice="check the training data for extreme values, or lower the learning rate",
                )
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        (loss * weight * self._crew.size).backward()  # gradients are averaged over processes, shares may differ by one
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), _CLIP)
        self._optimizer.step()
        return value * weight

    def _loss(self, module: Any, inputs: Arrays, labels: Array | None) -> Any:
        assert self._goal is not None
        given = modules.tensors(inputs)
        soft = modules.answer(self._teacher, given)
        answers = modules.outputs_of(module(*given))
        loss = loss_of(self._goal, answers, soft, labels, self._step.distil)
        if self._watching is not None:
            seen = self._watching
            loss = loss + self._step.features * features.unlikeness(seen.student, seen.teacher, seen.names)
        return loss

    def _rate(self, done: float) -> float:
        return learning_rate(self._step.schedule, self._step.learning_rate, done, self._batches)

    def _held_out(self, training: TrainingData) -> float | None:
        """The mean loss over the samples held out, by every process alike. Raises InputError where there are none."""
        import torch

        if not self._step.patience:
            return None
        total, count = 0.0, 0
        self.student.eval()
        with torch.no_grad():
            for inputs, labels in training.batches(self._epochs - 1):
                inputs, labels = _rows(inputs, labels, held_out(inputs, self._step.holdout))
                if len(inputs[0]):
                    total += float(self._loss(self.student, inputs, labels)) * len(inputs[0])
                    count += len(inputs[0])
        if not count:
            raise InputError(
                f"[recover] holdout = {self._step.holdout:g} holds out none of the training samples",
                advice="hold out more, or set patience = 0",
            )
        return total / count

    def _remember(self, loss: float | None) -> None:
        if loss is not None and (self._best_loss is None or loss < self._best_loss):
            self._best_loss, self._best_epoch = loss, self._epochs
            self._best = copy.deepcopy(self.student.state_dict())


def held_out(inputs: Arrays, share: float) -> Array:
    """Which samples of a batch are never learned from: `[n]` of bool, by a hash of each sample, so in any order the same ones."""
    import numpy as np

    first = np.ascontiguousarray(inputs[0])
    return np.array([zlib.crc32(row.tobytes()) % _SPLIT < share * _SPLIT for row in first], dtype=bool)


def _rows(inputs: Arrays, labels: Array | None, chosen: Array) -> tuple[Arrays, Array | None]:
    return tuple(array[chosen] for array in inputs), None if labels is None else labels[chosen]


def check_batch(inputs: Arrays, labels: Array | None) -> None:
    """Raises InputError for arrays of different lengths, NaN or infinity."""
    import numpy as np

    sizes = {len(array) for array in (*inputs, *(() if labels is None else (labels,)))}
    if len(sizes) != 1:
        raise InputError(f"a training batch has arrays of {sorted(sizes)} samples", expected="the same number in each")
    for array in (*inputs, *(() if labels is None else (labels,))):
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError("the training data holds NaN or infinity", advice="drop or repair those samples")
