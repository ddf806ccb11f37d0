"""What a search tries next, and how a trial of optuna's stands for a recipe."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import msgspec

from edgepack.digest import Digest
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, front
from edgepack.tuning.space import Axis, Point, Space, key_of, point_of
from edgepack.variant import Built

RETRIES = 2
"""How often a recipe whose worker died is tried again: one that kills every worker must not stop a search."""
_DRAWS = 64
"""Proposals that may be known already before one is drawn from those that are not."""
_SHARE_NEAR = 0.5
_MINOR = ("ranges", "correct", "cuts")
"""Axes that change a file's answers a little and its size not at all."""


def outcomes_of(study: Any) -> tuple[Outcome, ...]:
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


def seen(study: Any, space: Space) -> set[Digest]:
    """The recipes that nobody need try: done, under way, queued, impossible, or deadly to every worker that tried."""
    from optuna.trial import TrialState

    keys = set()
    for trial in study.get_trials(deepcopy=False):
        deadly = len(trial.system_attrs.get("retry_history", ())) >= RETRIES
        if trial.state != TrialState.FAIL or "reason" in trial.user_attrs or deadly:
            keys.add(trial_key(space, trial))
    return keys - {None}  # type: ignore[return-value]  # None: what has not chosen yet


def unseen(study: Any, space: Space) -> list[Point]:
    known = seen(study, space)
    return [point for key, point in space.points.items() if key not in known]


def trial_key(space: Space, trial: Any) -> Digest | None:
    params = trial.system_attrs.get("fixed_params") or trial.params
    if any(axis.name not in params for axis in space.axes):
        return None
    return key_of(space.recipe(_point(space, params)))


def params_of(space: Space, point: Point) -> dict[str, Any]:
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


def suggest(trial: Any, space: Space) -> Point:
    params = {
        axis.name: trial.suggest_int(axis.name, 0, len(axis.values) - 1)
        if axis.ordered
        else trial.suggest_categorical(axis.name, axis.values)
        for axis in space.axes
    }
    return _point(space, params)


def sampler(space: Space, seed: int) -> Any:
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
            generator, known = random.Random(seed * 1_000_003 + trial.number), seen(study, space)
            point = _near(study, space, known, generator) if generator.random() < _SHARE_NEAR else None
            return params_of(space, point or _drawn(study, space, known, generator))

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            raise AssertionError(f"{param_name} is chosen together with the others")

    return Fresh()


def _near(study: Any, space: Space, known: set[Digest], generator: random.Random) -> Point | None:
    """One of the front with one or two axes drawn anew; None where nobody is on it or all around it is known."""
    outcomes = outcomes_of(study)
    measured = all(one.built.latency_ms is not None for one in outcomes)
    leading = front(outcomes, Scales(space.plan.profile.profile, measured))
    weights = [1 if axis.name in _MINOR else 2 for axis in space.axes]
    for _ in range(_DRAWS if leading and space.axes else 0):
        start = _point(space, params_of(space, point_of(generator.choice(leading).built.recipe)))
        moved = generator.choices(space.axes, weights, k=generator.choice((1, 1, 2)))
        point = space.settled(
            msgspec.structs.replace(start, **{axis.name: generator.choice(axis.values) for axis in moved})
        )
        if key_of(space.recipe(point)) not in known:
            return point
    return None


def _drawn(study: Any, space: Space, known: set[Digest], generator: random.Random) -> Point:
    """A recipe that nobody has, every axis drawn alike; of recipes drawn alike four in five would be `mixed`."""
    for _ in range(_DRAWS):
        chosen = {axis.name: generator.choice(axis.values) for axis in space.axes}
        point = space.settled(msgspec.structs.replace(space.starts()[0], **chosen))
        if key_of(space.recipe(point)) not in known:
            return point
    fresh = unseen(study, space)
    return generator.choice(fresh or list(space.points.values()))
