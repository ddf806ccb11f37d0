"""What may be chosen, how an evaluation set is halved, what a front is: decisions without a database."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import catalog, digest
from edgepack.cli.tuning import require_place, seconds
from edgepack.digest import Digest
from edgepack.errors import InputError, UsageError
from edgepack.model import Format, Model, Signature, TensorSpec
from edgepack.names import variant_id
from edgepack.plan import Plan, plan
from edgepack.project import BuildSection, DataSection, Project
from edgepack.recipe import STATIC, Convert, Prune, Quantize, Recipe, is_rehearsed, precision_of, sparsity_of
from edgepack.samples import Samples
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, finalists, front, objectives
from edgepack.tuning.space import Space, describe, point_of, space_of
from edgepack.tuning.split import halves
from edgepack.tuning.storage import check_storage, shown
from edgepack.variant import Built, Parity


def plan_for(profile: str, *, trainable: bool = True, qat: bool = False) -> Plan:
    (resolved,) = catalog.load_profiles([profile])
    model = Model(
        source="net.py:build",
        format=Format.TORCH,
        digest=digest.of_bytes(b"net"),
        signature=Signature((TensorSpec("x", (1, 4)),), (TensorSpec("y", (1, 2)),)),
        frameworks=(),
    )
    data = DataSection(calibration="c.npz", evaluation="e.npz", training="t.npz")
    project = Project(name="net", data=data, build=BuildSection(qat=qat))
    return plan(model, resolved, project, (), trainable=trainable)


def recipes_of(space: Space) -> list[Recipe]:
    return [space.recipe(point) for point in space.points.values()]


def test_a_space_holds_what_build_would_make_and_what_lies_between_and_beyond() -> None:
    planned = plan_for("rpi4")
    space = space_of(planned)
    recipes = recipes_of(space)
    assert set(planned.recipes) <= set(recipes) and len(set(recipes)) == len(recipes) == len(
        set(map(describe, recipes))
    )
    # a format: w8a8 has 5 ways to take ranges × 3 to correct, mixed × 5 numbers of cuts as well, three precisions have none;
    # pruned, each × 4 sparsities × 2 importances × 2 scopes × 3 durations
    files = 15 + 15 * 5 + 3
    assert len(recipes) == 2 * files * (1 + 4 * 2 * 2 * 3)
    assert sorted({sparsity_of(recipe) for recipe in recipes}) == [0.0, 0.125, 0.25, 0.375, 0.5]
    assert [space.recipe(point) for point in space.starts()] == list(planned.recipes)


def test_what_means_nothing_for_a_recipe_is_no_choice_of_it() -> None:
    for recipe in recipes_of(space_of(plan_for("rpi4"))):
        point, last = point_of(recipe), recipe[-1]
        assert any(isinstance(step, Prune) for step in recipe) == bool(point.sparsity)
        if precision_of(recipe) not in STATIC and isinstance(last, Quantize):
            assert last == Quantize(last.precision)
        if precision_of(recipe) == "w8a8":
            assert isinstance(last, Quantize) and last.cuts is None


def test_mixed_is_searched_where_both_kinds_of_its_arithmetic_are_allowed() -> None:
    plan = plan_for("rpi4", trainable=False)
    mixed = [recipe[-1] for recipe in recipes_of(space_of(plan)) if precision_of(recipe) == "mixed"]
    assert {step.cuts for step in mixed} == {None, 1, 2, 4, 8}
    assert {step.max_drop for step in mixed} == {plan.profile.profile.budget.max_drop}
    integers = msgspec.structs.replace(
        plan, recipes=tuple(recipe for recipe in plan.recipes if precision_of(recipe) == "w8a8")
    )
    assert {precision_of(recipe) for recipe in recipes_of(space_of(integers))} == {"w8a8"}


def test_what_is_rehearsed_is_searched_with_and_without_and_what_cannot_be_is_not() -> None:
    planned = plan_for("rpi4", qat=True)
    space = space_of(planned)
    rehearsed = {precision_of(recipe) for recipe in recipes_of(space) if is_rehearsed(recipe)}
    assert rehearsed == {precision_of(recipe) for recipe in planned.recipes if is_rehearsed(recipe)}
    assert "fp32" not in rehearsed and set(planned.recipes) <= set(recipes_of(space))


def test_a_profile_that_wants_everything_pruned_is_searched_so() -> None:
    planned = plan_for("rpi4")
    pruned = tuple(recipe for recipe in planned.recipes if sparsity_of(recipe))
    recipes = recipes_of(space_of(msgspec.structs.replace(planned, recipes=pruned)))
    assert sorted({sparsity_of(recipe) for recipe in recipes}) == [0.125, 0.25, 0.375, 0.5]
    assert set(pruned) <= set(recipes)


def test_an_axis_with_one_choice_is_none() -> None:
    names = {axis.name for axis in space_of(plan_for("rpi4", trainable=False)).axes}
    assert names == {"format", "precision", "ranges", "correct", "cuts"}


@given(st.integers(20, 300), st.integers(0, 5), st.integers(1, 7))
def test_halves_share_nothing_lose_nothing_and_have_every_label(count: int, seed: int, classes: int) -> None:
    x = np.arange(count)[:, None]
    samples = Samples((x,), np.sort(np.arange(count) % classes), digest.of_bytes(b"all"))
    seen, held = halves(samples, seed)
    both = np.concatenate([seen.inputs[0], held.inputs[0]])[:, 0]
    assert sorted(both) == list(range(count)) and abs(len(seen) - len(held)) <= 1
    counts = [np.bincount(half.labels, minlength=classes) for half in (seen, held)]
    assert np.abs(counts[0] - counts[1]).max() <= 1
    assert len({seen.digest, held.digest, samples.digest}) == 3
    again, _ = halves(samples, seed)
    assert (again.inputs[0] == seen.inputs[0]).all() and again.digest == seen.digest


def test_halves_of_values_are_halves_too_and_few_samples_are_refused() -> None:
    y = np.linspace(0, 1, 30)[:, None]
    seen, held = halves(Samples((y,), y, digest.of_bytes(b"values")), 0)
    assert len(seen) == len(held) == 15 and not set(seen.labels[:, 0]) & set(held.labels[:, 0])
    with pytest.raises(InputError, match="cannot be halved"):
        halves(Samples((y[:19],), y[:19], digest.of_bytes(b"few")), 0)


def outcome(number: int, drop: float, size: int, precision="w8a8", sparsity=0.0, **more) -> Outcome:
    built = Built(
        id=variant_id("net", "rpi4", precision, sparsity, "onnx"),
        runtime="onnxruntime",
        format="onnx",
        precision=precision,
        sparsity=sparsity,
        recipe=(Convert(format="onnx"),),
        digest=Digest("sha256:00"),
        size_bytes=size,
        parity=more.pop("parity", Parity(0.1, 0.01, 40.0)),
        score=0.9 - drop,
        drop=drop,
        **more,
    )
    return Outcome(number=number, key=Digest(f"sha256:{number:064}"), built=built, seconds=0.1, worker="a:1")


def scales(*, measured: bool = False) -> Scales:
    (resolved,) = catalog.load_profiles(["rpi4"])
    return Scales(resolved.profile, measured)


outcomes = st.lists(
    st.builds(
        outcome,
        number=st.integers(0, 10**6),
        drop=st.sampled_from((-0.01, 0.0, 0.005, 0.02)),
        size=st.integers(1, 5),
        precision=st.sampled_from(("w8a8", "w8d", "fp32")),
        sparsity=st.sampled_from((0.0, 0.25)),
    ),
    max_size=12,
    unique_by=lambda one: one.number,
)


@given(outcomes)
def test_laws_of_the_front(given_outcomes: list[Outcome]) -> None:
    weights = scales()
    leading = front(given_outcomes, weights)
    values = [objectives(one.built, weights) for one in leading]
    assert bool(leading) == bool(given_outcomes)
    assert not any(a != b and all(x <= y for x, y in zip(a, b, strict=True)) for a in values for b in values)
    within = [one for one in given_outcomes if one.built.drop <= 0.01]
    assert not within or all(one in within for one in leading)
    chosen = finalists(given_outcomes, weights)
    assert set(chosen) <= set(leading)
    assert {one.built.id for one in chosen} == {one.built.id for one in leading}
    assert len({one.built.id for one in chosen}) == len(chosen)


def test_measured_latencies_lead_where_there_are_some() -> None:
    slow = outcome(1, 0.0, 10, latency_ms=9.0, p90_ms=9.5)
    fast = outcome(2, 0.0, 10, precision="fp32", latency_ms=3.0, p90_ms=3.0)
    assert [one.number for one in front([slow, fast], scales(measured=True))] == [2]
    assert [one.number for one in front([slow, fast], scales())] == [1]
    exact = outcome(3, 0.0, 10, parity=Parity(0, 0, float("inf")))
    assert all(np.isfinite(objectives(exact.built, scales())))


def test_a_storage_is_postgresql_or_a_file_and_its_url_holds_no_password() -> None:
    assert check_storage("postgresql://me@db/tuning") == "postgresql+psycopg://me@db/tuning"
    assert check_storage("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"
    for url in (
        "postgresql://me:secret@db/tuning",
        "postgres://:secret@db/tuning",
        "postgresql://me:/secret@db/tuning",
        "postgresql://me@db/tuning?sslmode=require&password=secret",
        "postgresql+psycopg://me:secret@db/tuning",
        "mysql://me:secret@db/tuning",
    ):
        with pytest.raises(UsageError, match="password") as error:
            check_storage(url)
        assert "secret" not in str(error.value) and "pgpass" in error.value.advice
    for url in ("redis://db", "postgresql+psycopg://me@db/tuning"):
        with pytest.raises(UsageError, match="is no database"):
            check_storage(url)
    assert shown("postgresql://me@db/tuning?sslmode=require") == "postgresql://db/tuning"


@pytest.mark.parametrize(("text", "expected"), [("90s", 90), ("10m", 600), ("1.5h", 5400)])
def test_a_budget_is_written_as_people_write_it(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_a_place_that_cannot_be_written_to_is_found_before_the_search(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        require_place(tmp_path / "file" / "out")
    require_place(tmp_path / "new" / "out")
    assert list((tmp_path / "new" / "out").iterdir()) == []


@pytest.mark.parametrize("text", ["", "10", "0m", "m", "-1m", "10 days"])
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--budget"):
        seconds(text)
