"""The verb `tune`: search what a profile allows for the best of score, size and latency, and pack what stands up afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from edgepack import digest, pipeline
from edgepack.bundle import Bundle
from edgepack.errors import InputError, UsageError
from edgepack.pipeline import Request, Result, Seal, Weigh
from edgepack.pipeline.cache import code_digest
from edgepack.pipeline.make import Made, Workshop, candidate, scored_again
from edgepack.pipeline.pack import pack
from edgepack.pipeline.prepare import Inputs, data_digest, prepare, scored_on
from edgepack.pipeline.school import School
from edgepack.pipeline.tools import tools
from edgepack.pipeline.weighing import weigh_alone
from edgepack.plan import Plan
from edgepack.ports import Progress, Silent
from edgepack.recipe import Recipe, float_parent
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, finalists, front
from edgepack.tuning.space import Space, describe, space_of
from edgepack.tuning.split import halves
from edgepack.tuning.storage import check_storage, default_storage, shown
from edgepack.tuning.study import Limits, Study, open_study, search
from edgepack.variant import Built, Failed

__all__ = ["Limits", "Outcome", "Tuned", "describe", "tune"]


@dataclass(frozen=True)
class Tuned:
    """How a search ended.

    recipes: how many there are to try; outcomes: of every trial of every worker, seen on the search's half
    front: numbers of the trials that none other beats; unusable: why some recipes could not be made
    searched_on, held_out: samples of each half, 0 where nothing was scored; baseline: the source's score on the first of them
    measured: whether cost is a board's milliseconds
    result: the bundle of the finalists, scored on the half that the search never saw
    """

    study: str
    storage: str
    recipes: int
    outcomes: tuple[Outcome, ...]
    front: frozenset[int]
    unusable: tuple[str, ...]
    searched_on: int
    held_out: int
    baseline: float | None
    measured: bool
    result: Result


def tune(
    wanted: Request,
    out: Path,
    limits: Limits,
    progress: Progress,
    *,
    storage: str = "",
    seal: Seal = pipeline.bare,
    scales: Weigh | None = None,
) -> Tuned:
    """Search until a limit is met, then score the front on held-out samples, measure it, select as `build` does, and pack.

    storage: a database that several processes or machines share, empty for a file of this user's own. The same model, data,
    profile and code find their study again, so that the same command goes on. scales: what has boards measure every trial
    Raises UsageError for a storage that is none, InputError where the source or the data is wrong or nothing could be made,
    GateError where no finalist meets the budget on the held-out samples, BoardError where the database or a board is lost.
    """
    if storage:
        check_storage(storage)
    if not pipeline.leads():
        raise UsageError("a search is not run under torchrun", expected="the same command several times, one a worker")
    inputs = prepare(wanted, progress)
    plan = _only_plan(pipeline.plans_of(wanted, inputs))
    for skipped in plan.skipped:
        progress.warn(f"{plan.profile.name}: no {skipped.what}: {skipped.reason}")
    seen, held = _split(inputs, wanted.project.build.seed)
    space, weights = space_of(plan), Scales(plan.profile.profile, measured=scales is not None)
    name = _study_name(plan, seen, space, weights)
    url = storage or default_storage(name)
    study = open_study(name, url, space, wanted.project.build.seed, limits.takeover)
    school = School(inputs, progress, wanted.project.name, wanted.project.build.log)
    bench = _Bench(Workshop(plan, seen, progress, school), wanted, seal, scales, weights)
    _work(study, space, bench, limits, progress)
    outcomes = study.outcomes()
    if not outcomes:
        reasons = "".join(f"\n  {reason}" for reason in dict.fromkeys(study.unusable().values()))
        raise InputError(
            f"the search for {plan.profile.name} ended without a single variant{':' if reasons else ''}{reasons}",
            advice="mend the model, its data, the settings or the board as the reasons say"
            if reasons
            else "a larger --budget",
        )
    made = bench.second_look([one.built.recipe for one in finalists(outcomes, weights)], held)
    final = structs.replace(plan, recipes=tuple(each.variant.recipe for each in made if isinstance(each, Made)))
    result = pipeline.finish(Workshop(final, held, progress, school), wanted, made, out, seal, scales)
    return Tuned(
        study=name,
        storage=shown(url),
        recipes=len(space.points),
        outcomes=outcomes,
        front=frozenset(one.number for one in front(outcomes, weights)),
        unusable=tuple(dict.fromkeys(study.unusable().values())),
        searched_on=len(seen.scored.samples) if seen.scored else 0,
        held_out=len(held.scored.samples) if held.scored else 0,
        baseline=seen.scored.baseline if seen.scored else None,
        measured=weights.measured,
        result=result,
    )


def _only_plan(plans: Sequence[Plan]) -> Plan:
    if len(plans) != 1:
        raise UsageError(
            f"a search is for one profile, and {len(plans)} were named", expected="-p PROFILE once, one search each"
        )
    return plans[0]


def _split(inputs: Inputs, seed: int) -> tuple[Inputs, Inputs]:
    """What the search sees, and what it does not. Nothing that makes a variant gets the second."""
    if inputs.scored is None:
        return inputs, inputs
    seen, held = halves(inputs.scored.samples, seed)
    return scored_on(inputs, seen), scored_on(inputs, held)


def _study_name(plan: Plan, seen: Inputs, space: Space, scales: Scales) -> str:
    """Of everything that decides what a trial comes to: who has the same may work on the same study."""
    content = (plan.digest(), space.axes, data_digest(seen), scales.measured, tools(), code_digest())
    return f"{plan.name}-{plan.profile.name}-{digest.hex_of(digest.of_value(content))[:12]}"


@dataclass(frozen=True)
class _Bench:
    """Where recipes become variants that were scored, and measured where that is asked."""

    workshop: Workshop
    wanted: Request
    seal: Seal
    scales: Weigh | None
    weights: Scales

    def evaluate(self, recipe: Recipe) -> Built | Failed:
        made = self.workshop.make(recipe)
        if isinstance(made, Made) and self.scales is not None:
            made = weigh_alone(self.workshop.plan, made, self._packed, self.scales)
        return candidate(made)

    def second_look(self, recipes: Sequence[Recipe], held: Inputs) -> list[Made | Failed]:
        """The finalists and the float files that they come from, scored on samples that the search never saw."""
        every = dict.fromkeys([*recipes, *(parent for recipe in recipes for parent in _parents(recipe))])
        made = {recipe: self.workshop.make(recipe) for recipe in every}
        if held.scored is None:
            return list(made.values())
        with self.workshop.progress.step(f"score {len(made)} finalists on {len(held.scored.samples)} held-out samples"):
            return [scored_again(one, held.scored) if isinstance(one, Made) else one for one in made.values()]

    def _packed(self, plan: Plan, kept: Sequence[Made], default: str, folder: Path) -> Bundle:
        return self.seal(pack(plan, self.workshop.inputs, self.wanted.project, kept, default, folder, Silent()))


def _parents(recipe: Recipe) -> Iterator[Recipe]:
    parent = float_parent(recipe)
    while parent is not None:
        yield parent
        parent = float_parent(parent)


def _work(study: Study, space: Space, bench: _Bench, limits: Limits, progress: Progress) -> None:
    """This process's share of the search, told to whoever watches."""
    before = len(study.outcomes())
    if before:
        progress.note(f"the study {study.name} goes on: {before} trials are done")
    best = _Best(bench.weights)

    def evaluate(number: int, recipe: Recipe) -> Built | Failed:
        with progress.step(f"trial {number}: {describe(recipe)}{best.shown()}"):
            built = bench.evaluate(recipe)
        if isinstance(built, Failed):
            progress.warn(f"{describe(recipe)}: {built.reason}")
        return built

    recipes = len(space.points)
    total = min(limits.trials or recipes, recipes) - before
    trials = search(study, space, evaluate, bench.weights, limits)
    for outcome in progress.track(trials, f"search {recipes} recipes", max(total, 0) or None):
        best.see(study.outcomes())
        progress.note(f"trial {outcome.number}: {told(outcome.built, bench.weights)}{best.shown()}")


@dataclass
class _Best:
    """The trial that `build` would select as things stand."""

    scales: Scales
    _chosen: Built | None = None

    def see(self, outcomes: Sequence[Outcome]) -> None:
        leading = front(outcomes, self.scales)
        self._chosen = min((one.built for one in leading), key=self.scales.cost, default=None)

    def shown(self) -> str:
        return f" (best so far: {told(self._chosen, self.scales)})" if self._chosen else ""


def told(built: Built, scales: Scales) -> str:
    """One variant in a line: what it is, how good, how large, how fast."""
    goodness = f"{built.score:.4f}" if built.score is not None else f"{built.parity.sqnr_db:.1f} dB"
    latency = f", {scales.cost(built):.3f} ms" if scales.measured else ""
    return f"{describe(built.recipe)} {goodness} in {built.size_bytes / 1e3:.1f} KB{latency}"
