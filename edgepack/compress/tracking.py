"""Training followed elsewhere: TensorBoard, Weights & Biases, MLflow, each told the same numbers after each epoch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, assert_never

from edgepack.home import home
from edgepack.ports import Progress
from edgepack.project import Log
from edgepack.quiet import quiet
from edgepack.runtimes import foreign

_PURPOSE = "following a training"


class Tracker(Protocol):
    """Who hears of each epoch: `loss`, `held_out_loss` (where samples are held out), `learning_rate`, `seconds`."""

    def log(self, epoch: int, values: dict[str, float]) -> None: ...


@contextmanager
def tracking(
    logs: Sequence[Log], project: str, run: str, settings: dict[str, Any], progress: Progress
) -> Iterator[tuple[Tracker, ...]]:
    """The trackers named, told of a run and its settings, and closed at the end.

    Each is set up by its own environment variables. Where those say nothing, it writes below `$EDGEPACK_HOME/tracking` and a
    note says where: nothing is sent anywhere that was not named. Raises UsageError where a library is not installed.
    """
    with ExitStack() as stack:
        yield tuple(stack.enter_context(_open(log, project, run, settings, progress)) for log in logs)


def folder() -> Path:
    return home() / "tracking"


@contextmanager
def _open(log: Log, project: str, run: str, settings: dict[str, Any], progress: Progress) -> Iterator[Tracker]:
    match log:
        case "tensorboard":
            yield from _tensorboard(project, run, settings, progress)
        case "wandb":
            yield from _wandb(project, run, settings, progress)
        case "mlflow":
            yield from _mlflow(project, run, settings, progress)
        case _:
            assert_never(log)


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def log(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()


def _tensorboard(project: str, run: str, settings: dict[str, Any], progress: Progress) -> Iterator[Tracker]:
    foreign.import_framework("tensorboard", "track", _PURPOSE)
    # Its own mark of a build without TensorFlow, which it would import for ten seconds only to open a file.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    module = foreign.import_framework("torch.utils.tensorboard", "track", _PURPOSE)
    place = folder() / "tensorboard" / project / run
    progress.note(f"TensorBoard: {place}")
    writer = module.SummaryWriter(str(place))
    writer.add_text("settings", "\n".join(f"    {key} = {value}" for key, value in settings.items()))
    try:
        yield _TensorBoard(writer)
    finally:
        writer.close()


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def log(self, epoch: int, values: dict[str, float]) -> None:
        self._run.log(values, step=epoch)


def _wandb(project: str, run: str, settings: dict[str, Any], progress: Progress) -> Iterator[Tracker]:
    wandb = foreign.import_framework("wandb", "track", _PURPOSE)
    asked = "WANDB_MODE" in os.environ or "WANDB_API_KEY" in os.environ
    place = Path(os.environ.get("WANDB_DIR", folder()))
    place.mkdir(parents=True, exist_ok=True)
    if not asked:
        progress.note(f"Weights & Biases: offline, {place}/wandb; set WANDB_API_KEY to send, or `wandb sync` later")
    with quiet():
        opened = wandb.init(
            project=project, name=run, config=settings, dir=str(place), mode=None if asked else "offline"
        )
    try:
        yield _Wandb(opened)
    finally:
        with quiet():
            opened.finish()


class _Mlflow:
    def __init__(self, client: Any, run: str) -> None:
        self._client, self._run = client, run

    def log(self, epoch: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=epoch)


def _mlflow(project: str, run: str, settings: dict[str, Any], progress: Progress) -> Iterator[Tracker]:
    tracking = foreign.import_framework("mlflow.tracking", "track", _PURPOSE)
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        folder().mkdir(parents=True, exist_ok=True)
        address = f"sqlite:///{folder() / 'mlflow.db'}"
        progress.note(f"MLflow: {address}; set MLFLOW_TRACKING_URI for a server")
    with quiet():
        client = tracking.MlflowClient(address)
        known = client.get_experiment_by_name(project)
        experiment = known.experiment_id if known else client.create_experiment(project)
        started = client.create_run(experiment, run_name=run).info.run_id
        for key, value in settings.items():
            client.log_param(started, key, value)
    status = "FAILED"
    try:
        yield _Mlflow(client, started)
        status = "FINISHED"
    finally:
        client.set_terminated(started, status)
