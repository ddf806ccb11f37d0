"""Train a module back to what its source could do, with the source as teacher; from where an earlier run was stopped."""

from __future__ import annotations

import contextlib
import copy
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from edgepack.compress import checkpoints, emulation, features, layers, modules, norms
from edgepack.compress.checkpoints import Standing
from edgepack.compress.crew import ALONE, Crew
from edgepack.compress.tracking import Tracker
from edgepack.compress.training import Course, Passed, Watching
from edgepack.ports import Progress
from edgepack.recipe import Recover, Rehearse, Training
from edgepack.samples import TrainingData

_NOTES = 5
_SMALL_MACS = 10_000_000
_KEPT_SECONDS = 2.0
"""Epochs shorter than this are not each worth a write that the disk confirms."""


def recover(
    module: Any,
    teacher: Any,
    training: TrainingData,
    step: Training,
    progress: Progress,
    *,
    checkpoint: Path | None = None,
    trackers: Sequence[Tracker] = (),
    crew: Crew = ALONE,
) -> Any:
    """A trained copy of `module`, in eval mode; `module` and `teacher` are untouched.

    Labels decide the goal: integers cross entropy, floats mean squared error, none the teacher's answers alone. `step.distil`
    weighs the teacher's answers (softened by a temperature of 2 for classes, Hinton et al. 2015) against the labels.
    A `Rehearse` rounds weights and activations while it trains; what comes back is a float module all the same.
    checkpoint: a file that holds where training stands at the end of an epoch; found there it goes on, to the same end
    crew: the processes that train together, all of them calling this; only the leader's result counts
    The same data and seed give the same weights; for modules of more than 10 million MACs a sample, with the same number of
    torch's threads. Raises InputError for an empty epoch, labels or inputs that do not fit, a loss that is not finite, and
    layers named that the module has not.
    """
    student, guide = copy.deepcopy(module), copy.deepcopy(teacher).eval()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_reproducible())
        stack.enter_context(_threads(module, training))
        if isinstance(step, Recover) and step.replaced:
            _seed(step.seed, 0)
            drawn = layers.draw_anew(student, step.replaced, step.initialization)
            progress.note(f"drawn anew ({step.initialization}): {', '.join(drawn)}")
        stack.enter_context(layers.dropping(student, step.dropout))
        emulated = stack.enter_context(emulation.emulating(student, step)) if isinstance(step, Rehearse) else None
        course = Course(student, guide, step, crew, _watching(stack, student, guide, step))
        _resume(course, checkpoint, crew, progress)
        _train(course, training, step, progress, checkpoint if crew.leads else None, trackers, emulated)
        trained = course.finish()
    if step.norm_batches and isinstance(step, Recover):
        norms.estimate_again(trained, training, step.norm_batches)
    return trained


def _train(
    course: Course,
    training: TrainingData,
    step: Training,
    progress: Progress,
    checkpoint: Path | None,
    trackers: Sequence[Tracker],
    emulated: emulation.Emulation | None,
) -> None:
    begun, first = time.monotonic(), course.epochs
    kept = -_KEPT_SECONDS
    every = max(1, step.epochs // _NOTES)
    title = "recover by training" if isinstance(step, Recover) else f"rehearse {step.precision} by training"
    for epoch in progress.track(range(first, step.epochs), title, step.epochs - first):
        if course.is_over:
            break
        if emulated is not None:
            emulated.settle(epoch / step.epochs)
        _seed(step.seed, epoch + 1)
        passed = course.epoch(training)
        if checkpoint is not None and (course.is_over or time.monotonic() - begun - kept >= _KEPT_SECONDS):
            kept = time.monotonic() - begun
            checkpoints.save(checkpoint, course.standing())
        for tracker in trackers:
            tracker.log(epoch + 1, _values(passed, time.monotonic() - begun))
        if (epoch + 1) % every == 0 or course.is_over:
            each = (time.monotonic() - begun) / (epoch + 1 - first)
            progress.note(_line(epoch + 1, step, passed, each, course.is_over))


def _values(passed: Passed, seconds: float) -> dict[str, float]:
    held = {} if passed.held_out is None else {"held_out_loss": passed.held_out}
    return {"loss": passed.loss, **held, "learning_rate": passed.rate, "seconds": seconds}


def _line(done: int, step: Training, passed: Passed, each: float, over: bool) -> str:
    held = "" if passed.held_out is None else f", held out {passed.held_out:.4f}"
    text = f"epoch {done}/{step.epochs}: loss {passed.loss:.4f}{held}"
    if not over:
        return f"{text}, about {_duration(each * (step.epochs - done))} left"
    return f"{text}: stopped early" if done < step.epochs else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _watching(stack: contextlib.ExitStack, student: Any, guide: Any, step: Training) -> Watching | None:
    if not step.features:
        return None
    names = layers.compared(student, guide, step.feature_layers)
    return Watching(
        names,
        stack.enter_context(features.watching(student, names)),
        stack.enter_context(features.watching(guide, names)),
    )


def _resume(course: Course, checkpoint: Path | None, crew: Crew, progress: Progress) -> None:
    """Go on from the leader's checkpoint, in every process."""
    with crew.together():
        found = checkpoints.load(checkpoint) if checkpoint is not None and crew.leads else None
    if not crew.is_alone:
        said = crew.tell((found.to_bytes() if found else b"") if crew.leads else None)
        found = Standing.from_bytes(said) if said else None
    if found is not None:
        course.resume(found)
        progress.note(f"training goes on after epoch {found.epochs}, from {checkpoint}")


def _threads(module: Any, training: TrainingData) -> AbstractContextManager[None]:
    """One thread for a small module: sums are then taken in the same order everywhere, and more threads would gain nothing."""
    inputs, _ = next(training.batches(0), ((), None))
    if not inputs or modules.count(module, tuple(array[:1] for array in inputs))[1] < _SMALL_MACS:
        return modules.one_thread()
    return nullcontext()


def _seed(seed: int, epoch: int) -> None:
    """Every generator that torch, a loader or an augmentation may draw from: an epoch does not depend on those before it."""
    import numpy as np
    import torch

    mixed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    torch.manual_seed(mixed)
    np.random.seed(mixed)  # users' own code draws from it
    random.seed(mixed)


@contextmanager
def _reproducible() -> Iterator[None]:
    """Deterministic algorithms where torch has them; the caller's random states are put back."""
    import numpy as np
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    plain, arrays = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
            np.random.set_state(arrays)
            random.setstate(plain)
