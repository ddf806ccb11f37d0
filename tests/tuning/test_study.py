"""A study: each recipe once, whoever works on it; what was interrupted is done again; limits hold. The database is real."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from msgspec import structs

from edgepack.errors import BoardError
from edgepack.recipe import Recipe, precision_of, sparsity_of
from edgepack.tuning.space import Axis, Space, key_of, space_of
from edgepack.tuning.study import Limits, Study, open_study, search
from edgepack.variant import Built, Failed, Measurement

from .test_space import outcome, plan_for, scales

pytest.importorskip("optuna")
EVERYTHING = Limits(seconds=None, trials=None, takeover=30)


@pytest.fixture
def space() -> Space:
    """8 recipes: two formats, four precisions, and nothing else to choose."""
    whole = space_of(plan_for("rpi4", trainable=False))
    few = tuple(axis for axis in whole.axes if axis.name == "format")
    recipes = tuple(recipe for recipe in whole.plan.recipes if precision_of(recipe) != "mixed")
    precisions = tuple(dict.fromkeys(precision_of(recipe) for recipe in recipes))
    return Space(structs.replace(whole.plan, recipes=recipes), (*few, Axis("precision", precisions)))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def opened(space: Space, url: str) -> Study:
    return open_study("study", url, space, 0, EVERYTHING.takeover)


class Worker:
    """Stands for the making of variants, which other tests do: what it was asked for, in order."""

    def __init__(self, *, stop_at: int | None = None, impossible: str = "", throttled: bool = False) -> None:
        self.asked: list[Recipe] = []
        self.meets: threading.Barrier | None = None
        """Where the next trial waits for another worker's."""
        self._stop_at, self._impossible, self._throttled = stop_at, impossible, throttled

    def __call__(self, number: int, recipe: Recipe) -> Built | Failed:
        if len(self.asked) + 1 == self._stop_at:
            raise KeyboardInterrupt
        self.asked.append(recipe)
        if self.meets is not None:
            self.meets.wait(60)
            self.meets = None
        sparsity = next((step.sparsity for step in recipe if hasattr(step, "sparsity")), 0.0)
        precision = recipe[-1].precision
        if precision == self._impossible:
            return Failed(id="x", format="onnx", precision=precision, sparsity=sparsity, reason="no such operator")
        size = round(1000 * (1 - sparsity)) // (1 if precision == "fp32" else 4)
        measured = (on_board("throttled"),) if self._throttled else ()
        return outcome(0, sparsity / 50, size, precision=precision, sparsity=sparsity, measured=measured).built


def on_board(reason: str) -> Measurement:
    return Measurement(
        target="kitchen",
        stand_in=None,
        p50_ms=1.0,
        p90_ms=1.0,
        memory_mb=1.0,
        against_parent=None,
        verdict="invalid",
        reasons=(reason,),
    )


def test_every_recipe_is_tried_once_and_then_it_ends(space: Space, url: str) -> None:
    worker = Worker()
    found = list(search(opened(space, url), space, worker, scales(), EVERYTHING))
    assert len(worker.asked) == len({key_of(recipe) for recipe in worker.asked}) == len(space.points) == 8
    assert {one.key for one in found} == {key_of(recipe) for recipe in worker.asked}
    assert worker.asked[: len(space.plan.recipes)] == list(space.plan.recipes)  # what build would make comes first
    again = Worker()
    assert list(search(opened(space, url), space, again, scales(), EVERYTHING)) == [] == again.asked


def test_a_sampler_that_has_seen_enough_proposes_what_nobody_tried(url: str) -> None:
    """Thousands of recipes, of which a few are what build would make: what comes after these is the sampler's."""
    space, worker = space_of(plan_for("rpi4")), Worker()
    first = len(space.plan.recipes)
    list(search(opened(space, url), space, worker, scales(), Limits(None, first + 8, 30)))
    assert worker.asked[:first] == list(space.plan.recipes)
    assert len({key_of(recipe) for recipe in worker.asked}) == first + 8
    proposed = [sparsity_of(recipe) for recipe in worker.asked[first:]]
    assert len(set(proposed)) > 1 and all(key_of(recipe) in space.points for recipe in worker.asked)


def test_the_number_of_trials_is_the_studys_and_the_same_study_goes_on(space: Space, url: str) -> None:
    first, second = Worker(), Worker()
    assert len(list(search(opened(space, url), space, first, scales(), Limits(None, 5, 30)))) == 5
    assert len(list(search(opened(space, url), space, second, scales(), Limits(None, 8, 30)))) == 3
    assert len({key_of(recipe) for recipe in [*first.asked, *second.asked]}) == 8


def test_no_trial_begins_after_the_budget(space: Space, url: str) -> None:
    assert list(search(opened(space, url), space, Worker(), scales(), Limits(1e-9, None, 30))) == []
    assert len(list(search(opened(space, url), space, Worker(), scales(), Limits(None, 1, 30)))) == 1


def test_what_was_interrupted_is_the_next_to_be_tried_again(space: Space, url: str) -> None:
    worker, after = Worker(stop_at=4), Worker()
    with pytest.raises(KeyboardInterrupt):
        list(search(opened(space, url), space, worker, scales(), EVERYTHING))
    assert len(worker.asked) == 3
    list(search(opened(space, url), space, after, scales(), EVERYTHING))
    assert space.plan.recipes[3] in after.asked
    assert len({key_of(recipe) for recipe in [*worker.asked, *after.asked]}) == 8 == len(worker.asked + after.asked)


def test_what_cannot_be_made_is_tried_once_and_keeps_its_reason(space: Space, url: str) -> None:
    study, worker = opened(space, url), Worker(impossible="fp16")
    found = list(search(study, space, worker, scales(), EVERYTHING))
    assert (len(found), len(worker.asked)) == (6, 8)
    assert set(study.unusable().values()) == {"no such operator"} and len(study.unusable()) == 2


def test_two_workers_at_once_share_the_recipes(space: Space, url: str) -> None:
    workers, meeting = [Worker(), Worker()], threading.Barrier(2)
    first = opened(space, url)
    list(search(first, space, workers[0], scales(), Limits(None, 1, 30)))
    studies = [first, opened(space, url)]
    for worker in workers:
        worker.meets = meeting

    def work(study: Study, worker: Worker) -> None:
        list(search(study, space, worker, scales(), EVERYTHING))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(studies, workers, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asked = [key_of(recipe) for worker in workers for recipe in worker.asked]
    assert len(asked) == len(set(asked)) == 8


def test_latencies_that_say_nothing_lead_no_search(space: Space, url: str) -> None:
    study = opened(space, url)
    with pytest.raises(BoardError, match="3 measurements in a row decide nothing: throttled"):
        list(search(study, space, Worker(throttled=True), scales(measured=True), EVERYTHING))
    assert study.outcomes() == () and study.unusable() == {}


def test_a_database_that_cannot_be_reached_is_one_clear_error(space: Space, tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="database sqlite:///") as error:
        open_study("study", f"sqlite:///{tmp_path}/none/study.db", space, 0, 30)
    assert "goes on" in error.value.advice
