"""Modules that are pruned and trained before they are converted: each once, kept on disk, resumed where a run was killed."""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgepack import compress, digest
from edgepack.compress import ALONE, Crew, Tracker
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, InputError
from edgepack.home import home
from edgepack.pipeline import cache
from edgepack.pipeline.prepare import Inputs
from edgepack.pipeline.tools import tools
from edgepack.ports import Loaded, Progress, Silent, TorchNative
from edgepack.project import Log
from edgepack.recipe import Prune, Recipe, Recover, Rehearse, Step, Training
from edgepack.sources import torch_source


class Lesson(Struct, frozen=True):
    """What the leader of a crew says: train the last of these steps with me; none: it is over."""

    steps: Recipe


@dataclass
class School:
    """name: of the project, for who follows the training; crew: the processes that train together"""

    inputs: Inputs
    progress: Progress
    name: str
    logs: tuple[Log, ...] = ()
    crew: Crew = ALONE
    _made: dict[Digest, Any] = field(default_factory=dict)

    def loaded(self, steps: Recipe) -> Loaded:
        """The source after `steps`, all of them before its conversion. Raises InputError."""
        source = self.inputs.loaded
        if not steps:
            return source
        module = self._module(steps)
        return torch_source.from_module(source.model.source, module, source.model.digest, source.model.signature.inputs)

    def assist(self) -> None:
        """Train with the leader, whatever it says, until it dismisses the crew."""
        while True:
            lesson = msgspec.json.decode(self.crew.tell(None), type=Lesson)
            if not lesson.steps:
                return
            # What the leader trains may come from its disk: what counts are the shapes, weights are the leader's.
            shaping = tuple(step for step in lesson.steps[:-1] if isinstance(step, Prune))
            try:
                self._recover(self._module(shaping), _training(lesson.steps[-1]))
            except InputError:
                continue  # the leader says what it was

    @contextmanager
    def in_session(self) -> Iterator[None]:
        """The others of the crew wait for lessons until the block ends, well or with an error that is ours to explain."""
        try:
            yield
        except EdgepackError:
            self._dismiss()
            raise
        self._dismiss()

    def _dismiss(self) -> None:
        if not self.crew.is_alone:
            self.crew.tell(msgspec.json.encode(Lesson(())))

    def _module(self, steps: Recipe) -> Any:
        native = self.inputs.loaded.native
        assert isinstance(native, TorchNative)
        if not steps:
            return native.module
        key = self._key(steps)
        if key not in self._made:
            *before, last = steps
            self._made[key] = self._after(self._module(tuple(before)), steps, last)
        return self._made[key]

    def _after(self, module: Any, steps: Recipe, step: Step) -> Any:
        match step:
            case Prune():
                return self._pruned(module, step)
            case Recover() | Rehearse():
                return self._trained(module, steps, step)
            case _:
                raise AssertionError("not a step before conversion")

    def _pruned(self, module: Any, step: Prune) -> Any:
        example = next(self.inputs.probe.batches())
        with self.progress.step(f"prune {step.sparsity:.0%} of the channels"):
            pruned = compress.prune(module, example, step, self.inputs.training)
        self.progress.note(str(pruned))
        return pruned.module

    def _trained(self, module: Any, steps: Recipe, step: Training) -> Any:
        """A copy with the weights that training gives, which are kept."""
        import torch

        key = self._key(steps)
        checkpoint = home() / "cache" / "training" / f"{digest.hex_of(key)}.pt"

        def train(folder: Path) -> None:
            settings = {name: value for name, value in msgspec.to_builtins(step).items() if name != "type"}
            run = f"{_title(steps)}-{digest.hex_of(key)[:8]}"
            with compress.tracking(self.logs, self.name, run, settings, self.progress) as trackers:
                if not self.crew.is_alone:
                    self.crew.tell(msgspec.json.encode(Lesson(steps)))
                trained = self._recover(module, step, checkpoint, trackers)
            weights = io.BytesIO()  # torch says nothing useful of a full disk
            torch.save(trained.state_dict(), weights)
            (folder / "weights.pt").write_bytes(weights.getbuffer())

        folder = cache.entry(key, train)
        checkpoint.unlink(missing_ok=True)
        ready = copy.deepcopy(module)
        ready.load_state_dict(torch.load(folder / "weights.pt", weights_only=True))
        return ready.eval()

    def _recover(
        self, module: Any, step: Training, checkpoint: Path | None = None, trackers: Sequence[Tracker] = ()
    ) -> Any:
        native, training = self.inputs.loaded.native, self.inputs.training
        assert isinstance(native, TorchNative) and training is not None
        return compress.recover(
            module,
            native.module,
            training,
            step,
            self.progress if self.crew.leads else Silent(),
            checkpoint=checkpoint,
            trackers=trackers,
            crew=self.crew,
        )

    def _key(self, steps: Recipe) -> Digest:
        training = self.inputs.training
        assert training is not None
        model = self.inputs.loaded.model.digest
        return digest.of_value(("module", model, steps, training.digest, tools(), cache.code_digest()))


def _training(step: Step) -> Training:
    assert isinstance(step, Recover | Rehearse)
    return step


def _title(steps: Recipe) -> str:
    """`s50`, `w8a8-qat`, `s50-w8a8-qat`: what a run is called where it is followed."""
    words = []
    for step in steps:
        match step:
            case Prune():
                words.append(f"s{round(step.sparsity * 100):02d}")
            case Rehearse():
                words.append(f"{step.precision}-qat")
            case _:
                pass
    return "-".join(words)
