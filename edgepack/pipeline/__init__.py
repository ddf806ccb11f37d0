"""The verb `build`: load, compress per profile, verify, score, select, pack. One bundle a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgepack import compress, select, store
from edgepack import plan as plans
from edgepack.bundle import Bundle
from edgepack.errors import BoardError, EdgepackError, GateError, InputError
from edgepack.pipeline.estimating import Estimates, estimates
from edgepack.pipeline.host_time import HostTime, host_times
from edgepack.pipeline.make import Made, Workshop, candidate
from edgepack.pipeline.pack import pack
from edgepack.pipeline.prepare import Inputs, Request, prepare
from edgepack.pipeline.request import request
from edgepack.pipeline.school import School
from edgepack.pipeline.weighing import Weigh, weigh
from edgepack.plan import Plan
from edgepack.ports import Progress, Silent
from edgepack.recipe import precision_of
from edgepack.variant import Failed, Judged

__all__ = [
    "Estimates",
    "HostTime",
    "Request",
    "Result",
    "Seal",
    "Weigh",
    "bare",
    "build",
    "finish",
    "leads",
    "plan",
    "plans_of",
    "request",
]

Seal = Callable[[Bundle], Bundle]


@dataclass(frozen=True)
class Result:
    """One profile's bundle and how it came to be.

    baseline: the source's score, None where it was not scored; host_times: what pruning saved, measured on this machine
    estimates: of the variants that no board measured: never a measured latency
    """

    bundle: Bundle
    plan: Plan
    baseline: float | None
    source_bytes: int
    judged: tuple[Judged, ...]
    default: str
    host_times: tuple[HostTime, ...] = ()
    estimates: Estimates = field(default_factory=dict)


def bare(bundle: Bundle) -> Bundle:
    """No seal: the bundle as it was packed."""
    return bundle


def plan(wanted: Request, progress: Progress) -> tuple[Plan, ...]:
    """What would be built, one plan a profile. Nothing is written."""
    return plans_of(wanted, prepare(wanted, progress))


def build(
    wanted: Request, out: Path, progress: Progress, seal: Seal = bare, scales: Weigh | None = None
) -> tuple[Result, ...]:
    """Build one bundle a profile into `out`, and keep it in the local store.

    seal: what signs it, where it is to be signed; scales: what has boards measure the variants before one is selected
    Under torchrun every process calls this: the first builds, the others train with it and return nothing.
    Raises InputError where the source or the data is wrong or no variant could be made, GateError where none met the budget,
    BoardError where none runs on the boards that were to measure, and what `scales` raises.
    """
    with compress.gathered() as crew:
        quietly = progress if crew.leads else Silent()
        inputs = prepare(wanted, quietly)
        school = School(inputs, quietly, wanted.project.name, wanted.project.build.log, crew)
        if not crew.leads:
            school.assist()
            return ()
        with school.in_session():
            return tuple(
                _build(each, wanted, inputs, school, out, progress, seal, scales) for each in plans_of(wanted, inputs)
            )


def leads() -> bool:
    """Whether this process writes and prints: the first of those that torchrun started, or the only one."""
    return compress.rank_in_crew() == 0


def plans_of(wanted: Request, inputs: Inputs) -> tuple[Plan, ...]:
    """One plan a profile."""
    model = inputs.loaded.model
    return tuple(
        plans.plan(model, profile, wanted.project, wanted.origins, trainable=inputs.trainable)
        for profile in wanted.profiles
    )


def _build(
    plan: Plan,
    wanted: Request,
    inputs: Inputs,
    school: School,
    out: Path,
    progress: Progress,
    seal: Seal,
    scales: Weigh | None,
) -> Result:
    for skipped in plan.skipped:
        progress.warn(f"{plan.profile.name}: no {skipped.what}: {skipped.reason}")
    workshop = Workshop(plan, inputs, progress, school)
    return finish(workshop, wanted, _make(workshop), out, seal, scales)


def _make(workshop: Workshop) -> list[Made | Failed]:
    """The plan's variants. `mixed` comes last, since it is made only where integers alone break the budget."""
    plan, progress = workshop.plan, workshop.progress
    made: list[Made | Failed] = []
    recipes = sorted(plan.recipes, key=lambda recipe: precision_of(recipe) == "mixed")
    for recipe in progress.track(recipes, f"variants for {plan.profile.name}", len(recipes)):
        if reason := select.needless(recipe, [candidate(each) for each in made], plan.profile.profile):
            progress.note(f"no {plan.id_of(recipe)}: {reason}")
        else:
            made.append(workshop.make(recipe))
    return made


def finish(
    workshop: Workshop, wanted: Request, made: Sequence[Made | Failed], out: Path, seal: Seal, scales: Weigh | None
) -> Result:
    """Have the variants measured where that is wished, select among them, pack and sign. Their ids must differ."""
    plan, inputs, progress = workshop.plan, workshop.inputs, workshop.progress

    def packed(plan: Plan, kept: Sequence[Made], default: str, folder: Path) -> Bundle:
        return seal(pack(plan, inputs, wanted.project, kept, default, folder, progress))

    if scales is not None:
        made = weigh(workshop, made, packed, scales)
    selection = select.select([candidate(each) for each in made], plan.profile.profile)
    for judged in selection.judged:
        if isinstance(judged.built, Failed):
            progress.warn(f"{judged.built.id}: {judged.reason}")
    if selection.default is None:
        raise _nothing_left(plan, selection.judged)
    front = {judged.built.id for judged in selection.judged if judged.status != "rejected"}
    kept = [each for each in made if isinstance(each, Made) and each.variant.id in front]
    with progress.step(f"pack {plan.name} {plan.version} for {plan.profile.name}"):
        bundle = packed(plan, kept, selection.default, out)
        store.add(bundle, "build")
    with progress.step(f"estimate latencies for {plan.profile.name}"):
        estimated = estimates(plan, [each for each in made if isinstance(each, Made)], progress.warn)
    times = host_times([each for each in made if isinstance(each, Made)], inputs.probe)
    for time in times:
        progress.note(str(time))
    baseline = inputs.scored.baseline if inputs.scored else None
    return Result(bundle, plan, baseline, inputs.size_bytes, selection.judged, selection.default, times, estimated)


def _nothing_left(plan: Plan, judged: tuple[Judged, ...]) -> EdgepackError:
    reasons = "\n".join(f"  {each.built.id}: {each.reason}" for each in judged)
    failed = [each.built for each in judged if isinstance(each.built, Failed)]
    if any(one.on_board for one in failed) and len(failed) == len(judged):
        return BoardError(
            f"nothing that was built for {plan.profile.name} runs where it was to be measured:\n{reasons}",
            advice="mend the board as the reasons say, name another in --target, or leave --target out",
        )
    if len(failed) == len(judged):
        return InputError(
            f"no variant for {plan.profile.name} could be made:\n{reasons}",
            advice="mend the model, its data or the settings as the reasons say",
        )
    return GateError(
        f"no variant for {plan.profile.name} meets its budget:\n{reasons}",
        advice=f"loosen [budget] in a profile of your own (extends = {plan.profile.name!r}), or give more calibration data",
    )
