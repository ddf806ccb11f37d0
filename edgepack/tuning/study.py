"""The study: who works on what, and until when. optuna underneath; any number of processes.

A recipe is worked on once: what others have or are working on is not proposed, and of two that began the same at once the
later one yields. A worker that gives no sign of life is taken for dead, and its recipe is queued again.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from edgepack.digest import Digest
from edgepack.errors import BoardError, missing_extra
from edgepack.recipe import Recipe
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, objectives
from edgepack.tuning.proposing import RETRIES, outcomes_of, params_of, sampler, suggest, trial_key, unseen
from edgepack.tuning.space import Space, key_of
from edgepack.tuning.storage import check_storage, lost, named_errors, one_at_a_time, quietly
from edgepack.variant import Built, Failed

_POLL_SECONDS = 0.5
_CHOICE_SECONDS = 0.05
_OPENINGS = 6
_DOUBTS = 3
"""Measurements in a row that decide nothing, after which a search ends: a board that throttles would go on for ever."""

Evaluate = Callable[[int, Recipe], Built | Failed]
"""Make and score one recipe; the first argument is the trial's number. Raises BoardError and whatever stops a search."""


@dataclass(frozen=True)
class Limits:
    """seconds: no trial begins after so long; trials: how many the study is to have in all; None is no limit of that kind

    takeover: seconds without a sign of life after which another worker's trial is tried again by somebody else
    """

    seconds: float | None
    trials: int | None
    takeover: int = 60


@dataclass(frozen=True)
class Study:
    """name: in the database at `url`; inner: optuna's own"""

    name: str
    url: str
    inner: Any

    def outcomes(self) -> tuple[Outcome, ...]:
        """Every trial that ended, of all workers."""
        with named_errors(self.url):
            return outcomes_of(self.inner)

    def unusable(self) -> dict[str, str]:
        """Recipes that could not be made, by their key, with the reason."""
        with named_errors(self.url):
            trials = self.inner.get_trials(deepcopy=False)
        return {trial.user_attrs["key"]: trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs}


class _Known(Exception):
    """Another trial has this recipe, or works on it."""


class _Unusable(Exception):
    """A recipe that cannot be made. The trial keeps the reason."""


class _Doubtful(Exception):
    """A measurement that decides nothing. The trial keeps the reason; its recipe may be tried again."""


def open_study(name: str, url: str, space: Space, seed: int, takeover: int) -> Study:
    """The study `name` in that database, begun where there is none. Raises UsageError without optuna, BoardError."""
    try:
        import optuna
        import sqlalchemy
    except ImportError:
        raise missing_extra("optuna", "search", "a search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    retry = quietly(optuna.storages.RetryHeartbeatStaleTrialCallback, max_retry=RETRIES)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(_OPENINGS):
        try:
            storage = quietly(
                optuna.storages.RDBStorage,
                check_storage(url),
                engine_kwargs=options,
                heartbeat_interval=max(1, takeover // 3),
                grace_period=takeover,
                heartbeat_stale_trial_callback=retry,
            )
            if url.startswith("sqlite"):
                one_at_a_time(storage.engine)
            inner = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["minimize"] * 3,
                load_if_exists=True,
                sampler=sampler(space, seed),
            )
            return Study(name, url, inner)
        except ModuleNotFoundError:
            raise missing_extra("psycopg", "search", "a study in PostgreSQL") from None
        except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError) as error:
            # Two workers made the tables of a fresh database at the same time.
            if attempt == _OPENINGS - 1:
                raise lost(url, error) from None
            time.sleep(0.1 * 2**attempt)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise lost(url, error) from None
    raise AssertionError("unreachable")


def search(study: Study, space: Space, evaluate: Evaluate, scales: Scales, limits: Limits) -> Iterator[Outcome]:
    """One trial after the other until a limit is met or every recipe was tried; the outcome of each of this process's.

    Waits for other workers' last trials, in case they die. Ctrl-C or an error queues the interrupted recipe again.
    Raises BoardError where the database is lost, and whatever `evaluate` raises.
    """
    import optuna

    deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
    worker = f"{socket.gethostname()}:{os.getpid()}"
    doubts: list[str] = []

    def objective(trial: Any) -> tuple[float, float, float]:
        begun = time.monotonic()
        recipe = space.recipe(suggest(trial, space))
        trial.set_user_attr("key", key_of(recipe))
        trial.set_user_attr("worker", worker)
        if _is_known(study.inner, space, trial.number, key_of(recipe)):
            trial.set_user_attr("known", True)
            raise _Known
        built = evaluate(trial.number, recipe)
        if isinstance(built, Failed):
            trial.set_user_attr("reason", built.reason)
            raise _Unusable
        if scales.measured and built.latency_ms is None:
            doubts.append("; ".join(reason for one in built.measured for reason in one.reasons))
            trial.set_user_attr("doubt", doubts[-1])
            raise _Doubtful
        doubts.clear()
        trial.set_user_attr("built", msgspec.to_builtins(built))
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 3))
        return objectives(built, scales)

    with named_errors(study.url):
        _enqueue_starts(study.inner, space)
    while True:
        with named_errors(study.url):
            quietly(optuna.storages.fail_stale_trials, study.inner)
            what = _next(study.inner, space, limits, deadline)
        if what == "stop":
            return
        if what == "wait":
            time.sleep(_POLL_SECONDS)
            continue
        before = {one.number for one in study.outcomes()}
        try:
            with named_errors(study.url):
                quietly(study.inner.optimize, objective, n_trials=1, catch=(_Known, _Unusable, _Doubtful))
        except BoardError:
            raise
        except BaseException:
            _queue_again(study.inner, worker)
            raise
        if len(doubts) == _DOUBTS:
            raise BoardError(
                f"{_DOUBTS} measurements in a row decide nothing: {doubts[-1]}",
                advice="cool or unload the board and run this again: it goes on where it was; or leave --target out",
            )
        yield from (one for one in study.outcomes() if one.worker == worker and one.number not in before)


def _next(study: Any, space: Space, limits: Limits, deadline: float | None) -> str:
    """`go`, `wait` for others who may die, or `stop`."""
    from optuna.trial import TrialState

    states = [trial.state for trial in study.get_trials(deepcopy=False) if trial.params or not space.axes]
    done, running = states.count(TrialState.COMPLETE), states.count(TrialState.RUNNING)
    waiting = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
    if (deadline is not None and time.monotonic() >= deadline) or (limits.trials is not None and done >= limits.trials):
        return "stop"
    enough = limits.trials is not None and done + running >= limits.trials
    nothing = not waiting and not unseen(study, space)
    if enough or nothing:
        return "wait" if running else "stop"
    return "go"


def _enqueue_starts(study: Any, space: Space) -> None:
    if study.get_trials(deepcopy=False):
        return
    for point in space.starts():
        study.enqueue_trial(params_of(space, point), skip_if_exists=True)


def _queue_again(study: Any, worker: str) -> None:
    """What was interrupted just now waits for whoever goes on."""
    from optuna.trial import TrialState

    own = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        if trial.user_attrs.get("worker") == worker and not trial.user_attrs.keys() & {"reason", "doubt", "known"}
    ]
    if own:
        study.enqueue_trial(own[-1].params)


def _is_known(study: Any, space: Space, number: int, key: Digest) -> bool:
    """Whether an earlier trial has this recipe. Waits for those that began earlier and have not chosen theirs yet.

    Of two workers that choose the same at once the one with the lower number thereby keeps it, whoever of them looks first.
    """
    import optuna
    from optuna.trial import TrialState

    while True:
        busy = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.RUNNING))
        earlier = {trial_key(space, trial) for trial in busy if trial.number < number}
        if key in earlier or None not in earlier:
            return key in earlier
        time.sleep(_CHOICE_SECONDS)
        quietly(optuna.storages.fail_stale_trials, study)  # one that died before it chose
