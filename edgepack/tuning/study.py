"""The study: where trials are kept, who works on what, what is proposed next. optuna underneath; any number of processes.

A recipe is worked on once: what others have or are working on is not proposed, and of two that began the same at once the
later one yields. A worker that gives no sign of life is taken for dead, and its recipe is queued again.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from edgepack.digest import Digest
from edgepack.errors import BoardError, UsageError, missing_extra
from edgepack.home import home
from edgepack.recipe import Recipe
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, excesses, front, objectives
from edgepack.tuning.space import Axis, Point, Space, key_of, point_of
from edgepack.variant import Built, Failed

RETRIES = 2
"""How often a recipe whose worker died is tried again: one that kills every worker must not stop a search."""
_DRAWS = 64
"""Proposals that may be known already before one is drawn from those that are not."""
_SHARE_NEAR = 0.5
_MINOR = ("ranges", "correct", "cuts")
"""Axes that change a file's answers a little and its size not at all."""
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
        with _named_errors(self.url):
            return _outcomes(self.inner)

    def unusable(self) -> dict[str, str]:
        """Recipes that could not be made, by their key, with the reason."""
        with _named_errors(self.url):
            trials = self.inner.get_trials(deepcopy=False)
        return {trial.user_attrs["key"]: trial.user_attrs["reason"] for trial in trials if "reason" in trial.user_attrs}


class _Known(Exception):
    """Another trial has this recipe, or works on it."""


class _Unusable(Exception):
    """A recipe that cannot be made. The trial keeps the reason."""


class _Doubtful(Exception):
    """A measurement that decides nothing. The trial keeps the reason; its recipe may be tried again."""


def default_storage(name: str) -> str:
    """A file of this user's own for a study that one machine works on."""
    path = home() / "studies" / f"{name}.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{path}"


def check_storage(url: str) -> str:
    """What SQLAlchemy is to open. Raises UsageError for another kind of database, or one whose URL holds a password."""
    if _holds_password(url):
        raise UsageError(
            f"--storage {shown(url)} holds a password, which everybody sees in the list of processes",
            expected="postgresql://USER@HOST/DATABASE",
            advice="put it into ~/.pgpass or PGPASSWORD: PostgreSQL's own client library reads both",
        )
    if url.startswith(("postgresql://", "postgres://")):
        return "postgresql+psycopg://" + url.partition("://")[2]
    if url.startswith("sqlite:///"):
        return url
    raise UsageError(
        f"--storage {shown(url)!r} is no database", expected="postgresql://USER@HOST/DATABASE or sqlite:///FILE"
    )


def open_study(name: str, url: str, space: Space, seed: int, takeover: int) -> Study:
    """The study `name` in that database, begun where there is none. Raises UsageError without optuna, BoardError."""
    try:
        import optuna
        import sqlalchemy
    except ImportError:
        raise missing_extra("optuna", "search", "a search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    retry = _quietly(optuna.storages.RetryHeartbeatStaleTrialCallback, max_retry=RETRIES)
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for attempt in range(_OPENINGS):
        try:
            storage = _quietly(
                optuna.storages.RDBStorage,
                check_storage(url),
                engine_kwargs=options,
                heartbeat_interval=max(1, takeover // 3),
                grace_period=takeover,
                heartbeat_stale_trial_callback=retry,
            )
            if url.startswith("sqlite"):
                _one_at_a_time(storage.engine)
            inner = optuna.create_study(
                storage=storage,
                study_name=name,
                directions=["minimize"] * 3,
                load_if_exists=True,
                sampler=_sampler(space, seed),
            )
            return Study(name, url, inner)
        except ModuleNotFoundError:
            raise missing_extra("psycopg", "search", "a study in PostgreSQL") from None
        except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError) as error:
            # Two workers made the tables of a fresh database at the same time.
            if attempt == _OPENINGS - 1:
                raise _lost(url, error) from None
            time.sleep(0.1 * 2**attempt)
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise _lost(url, error) from None
    raise AssertionError("unreachable")


def _one_at_a_time(engine: Any) -> None:
    """Let a SQLite transaction hold the file from its first read on, so that no two workers take the same waiting trial.

    optuna locks the row for that, which SQLite does not know. As SQLAlchemy's documentation of pysqlite says.
    """
    from sqlalchemy import event

    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins none of its own

    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", connect)
    event.listen(engine, "begin", begin)
    engine.dispose()  # those that were opened before


def _quietly(make: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # optuna calls its heartbeat experimental
        return make(*arguments, **options)


def _lost(url: str, error: Exception) -> BoardError:
    said = str(getattr(error, "orig", None) or error.__cause__ or error).strip().splitlines()
    return BoardError(
        f"the study's database {shown(url)} does not work: {said[0] if said else type(error).__name__}",
        expected="a database that this user may write to",
        advice="the same command goes on where it was once the database is back",
    )


def shown(url: str) -> str:
    """A storage as messages name it: without who asks, a password and options."""
    if url.startswith("sqlite"):
        return url
    scheme, mark, rest = url.partition("?")[0].partition("://")
    return scheme + mark + rest.rpartition("@")[2]


def _holds_password(url: str) -> bool:
    if url.startswith("sqlite"):
        return False
    place, _, options = url.partition("?")
    return ":" in place.partition("://")[2].rpartition("@")[0] or "password=" in options.lower()


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
        recipe = space.recipe(_suggest(trial, space))
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
        for name, excess in excesses(built, scales.profile).items():
            trial.set_constraint(name, excess)
        trial.set_user_attr("built", msgspec.to_builtins(built))
        trial.set_user_attr("seconds", round(time.monotonic() - begun, 3))
        return objectives(built, scales)

    with _named_errors(study.url):
        _enqueue_starts(study.inner, space)
    while True:
        with _named_errors(study.url):
            _quietly(optuna.storages.fail_stale_trials, study.inner)
            what = _next(study.inner, space, limits, deadline)
        if what == "stop":
            return
        if what == "wait":
            time.sleep(_POLL_SECONDS)
            continue
        before = {one.number for one in study.outcomes()}
        try:
            with _named_errors(study.url):
                _quietly(study.inner.optimize, objective, n_trials=1, catch=(_Known, _Unusable, _Doubtful))
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
    nothing = not waiting and not _unseen(study, space)
    if enough or nothing:
        return "wait" if running else "stop"
    return "go"


def _outcomes(study: Any) -> tuple[Outcome, ...]:
    from optuna.trial import TrialState

    return tuple(
        Outcome(
            number=trial.number,
            key=Digest(trial.user_attrs["key"]),
            built=msgspec.convert(trial.user_attrs["built"], Built),
            seconds=trial.user_attrs["seconds"],
            worker=trial.user_attrs["worker"],
        )
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    )


def _enqueue_starts(study: Any, space: Space) -> None:
    if study.get_trials(deepcopy=False):
        return
    for point in space.starts():
        study.enqueue_trial(_params(space, point), skip_if_exists=True)


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
        earlier = {_key(space, trial) for trial in busy if trial.number < number}
        if key in earlier or None not in earlier:
            return key in earlier
        time.sleep(_CHOICE_SECONDS)
        _quietly(optuna.storages.fail_stale_trials, study)  # one that died before it chose


def _seen(study: Any, space: Space) -> set[Digest]:
    """The recipes that nobody need try: done, under way, queued, impossible, or deadly to every worker that tried."""
    from optuna.trial import TrialState

    keys = set()
    for trial in study.get_trials(deepcopy=False):
        deadly = len(trial.system_attrs.get("retry_history", ())) >= RETRIES
        if trial.state != TrialState.FAIL or "reason" in trial.user_attrs or deadly:
            keys.add(_key(space, trial))
    return keys - {None}  # type: ignore[return-value]  # None: what has not chosen yet


def _unseen(study: Any, space: Space) -> list[Point]:
    seen = _seen(study, space)
    return [point for key, point in space.points.items() if key not in seen]


def _key(space: Space, trial: Any) -> Digest | None:
    params = trial.system_attrs.get("fixed_params") or trial.params
    if any(axis.name not in params for axis in space.axes):
        return None
    return key_of(space.recipe(_point(space, params)))


def _params(space: Space, point: Point) -> dict[str, Any]:
    """As optuna knows a point: an ordered axis by the place on it, so that the sampler sees neighbours.

    What means nothing there (how an unpruned variant was pruned) is the axis's first value.
    """
    values = {axis: getattr(point, axis.name) for axis in space.axes}
    known = {axis: value if value in axis.values else axis.values[0] for axis, value in values.items()}
    return {axis.name: axis.values.index(value) if axis.ordered else value for axis, value in known.items()}


def _point(space: Space, params: Mapping[str, Any]) -> Point:
    first = space.starts()[0]
    chosen = {axis.name: _value(axis, params[axis.name]) for axis in space.axes}
    return msgspec.structs.replace(first, **chosen)


def _value(axis: Axis, stored: Any) -> Any:
    """The axis's own object: msgspec leaves a default out by identity, and an equal text from a database is another object."""
    return axis.values[stored if axis.ordered else axis.values.index(stored)]


def _suggest(trial: Any, space: Space) -> Point:
    params = {
        axis.name: trial.suggest_int(axis.name, 0, len(axis.values) - 1)
        if axis.ordered
        else trial.suggest_categorical(axis.name, axis.values)
        for axis in space.axes
    }
    return _point(space, params)


def _sampler(space: Space, seed: int) -> Any:
    """What is tried next: every other time a recipe near one on the front, else one drawn at random; none that somebody has.

    Seeded by the trial's number, which no other worker has.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, IntDistribution

    whole = {
        axis.name: IntDistribution(0, len(axis.values) - 1) if axis.ordered else CategoricalDistribution(axis.values)
        for axis in space.axes
    }

    class Fresh(optuna.samplers.BaseSampler):
        def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
            return {} if trial.params or "fixed_params" in trial.system_attrs else whole

        def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
            if not search_space:
                return {}
            generator, seen = random.Random(seed * 1_000_003 + trial.number), _seen(study, space)
            point = _near(study, space, seen, generator) if generator.random() < _SHARE_NEAR else None
            return _params(space, point or _drawn(study, space, seen, generator))

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            raise AssertionError(f"{param_name} is chosen together with the others")

    return Fresh()


def _near(study: Any, space: Space, seen: set[Digest], generator: random.Random) -> Point | None:
    """One of the front with one or two axes drawn anew; None where nobody is on it or all around it is known."""
    outcomes = _outcomes(study)
    measured = all(one.built.latency_ms is not None for one in outcomes)
    leading = front(outcomes, Scales(space.plan.profile.profile, measured))
    weights = [1 if axis.name in _MINOR else 2 for axis in space.axes]
    for _ in range(_DRAWS if leading and space.axes else 0):
        start = _point(space, _params(space, point_of(generator.choice(leading).built.recipe)))
        moved = generator.choices(space.axes, weights, k=generator.choice((1, 1, 2)))
        point = space.settled(
            msgspec.structs.replace(start, **{axis.name: generator.choice(axis.values) for axis in moved})
        )
        if key_of(space.recipe(point)) not in seen:
            return point
    return None


def _drawn(study: Any, space: Space, seen: set[Digest], generator: random.Random) -> Point:
    """A recipe that nobody has, every axis drawn alike; of recipes drawn alike four in five would be `mixed`."""
    for _ in range(_DRAWS):
        chosen = {axis.name: generator.choice(axis.values) for axis in space.axes}
        point = space.settled(msgspec.structs.replace(space.starts()[0], **chosen))
        if key_of(space.recipe(point)) not in seen:
            return point
    fresh = _unseen(study, space)
    return generator.choice(fresh or list(space.points.values()))


@contextmanager
def _named_errors(url: str) -> Iterator[None]:
    """Whatever the database does is one clear error."""
    import optuna
    import sqlalchemy

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise _lost(url, error) from None
