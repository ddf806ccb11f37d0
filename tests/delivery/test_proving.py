"""Variants on a board while they are measured: what applications there use does not change, and nothing stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgepack import catalog, delivery, proving, remote
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery import tried
from edgepack.errors import BoardError, TrustError, UsageError
from edgepack.names import VariantId
from edgepack.pipeline.weighing import passing_name
from edgepack.protocol import Facts, FactsRequest
from edgepack.proving import Boards
from edgepack.report import BenchProtocol, Report
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]
QUICK = BenchProtocol(processes=3, warmup=2, samples=20, most_samples=2000, warm_seconds=0.05, least_seconds=0.1)


def scales(board: Target, *, allow_unsigned: bool = True) -> Boards:
    return Boards((board,), QUICK, allow_unsigned, Plain())


def names_on(board: Target) -> dict[str, bool]:
    (status,) = delivery.status([board], Plain())
    return {release.name: release.active for release in status.releases}


def heavy(make_bundle: MakeBundle, **more) -> tuple[Bundle, VariantId, VariantId]:
    """A bundle whose first variant computes much for nothing; the heavy and the light one's id."""
    bundle = make_bundle(name="sum.measured", work=60, **more)
    slow, light = (VariantId(record.id) for record in bundle.manifest.variants)
    return bundle, slow, light


def test_variants_are_measured_and_the_board_stays_what_it_was(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    active = make_bundle()
    delivery.push(active, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    link = (root / "current/sum").readlink()
    bundle, slow, light = heavy(make_bundle)
    results = scales(board).weigh(bundle, bundle.manifest.profile.name, {slow: light, light: None})
    measured, quick = results[slow], results[light]
    assert isinstance(measured, tuple) and isinstance(quick, tuple)
    assert measured[0].against_parent is not None and measured[0].against_parent.low > 1
    assert measured[0].p50_ms > quick[0].p50_ms and measured[0].p90_ms >= measured[0].p50_ms
    assert 10 < measured[0].memory_mb < 1000
    assert (measured[0].stand_in, measured[0].verdict) == ("loopback", "suspect")
    assert quick[0].against_parent is None
    assert names_on(board) == {"sum": True}
    assert (root / "current/sum").readlink() == link
    assert [path.name for path in (root / "releases").iterdir()] == ["sum"]
    assert not (root / "current/sum.measured").exists()


def test_an_emulated_boards_figures_are_marked_and_decide_nothing(make_bundle: MakeBundle, board: Target) -> None:
    bundle, _, light = heavy(make_bundle)
    stand_in = msgspec.structs.replace(board, board="emulated")
    measured = scales(stand_in).weigh(bundle, bundle.manifest.profile.name, {light: None})[light]
    assert isinstance(measured, tuple)
    assert measured[0].verdict == "invalid" and "emulated" in measured[0].reasons[0]


def test_what_answers_wrongly_there_is_told_by_its_reason_and_the_rest_is_measured(
    make_bundle: MakeBundle, board: Target
) -> None:
    bundle, slow, light = heavy(make_bundle, golden_error=1.0)
    results = scales(board).weigh(bundle, bundle.manifest.profile.name, {slow: light, light: None})
    for id in (slow, light):
        assert isinstance(results[id], str) and "self-test" in results[id] and f"on {board.name}" in results[id]
    assert names_on(board) == {}


def test_what_a_killed_run_left_is_gone_after_the_next(make_bundle: MakeBundle, board: Target) -> None:
    """The first run dies in between without a word: its release stays until somebody measures under that name again."""
    bundle, _, _ = heavy(make_bundle)
    with remote.Bastions() as bastions:
        left = tried(bundle, board, allow_unsigned=True, bastions=bastions, progress=Plain())
        assert left.__enter__() == {}  # and no __exit__
    assert names_on(board) == {"sum.measured": False}
    other, _, _ = heavy(make_bundle, bias=2.0)
    with (
        remote.Bastions() as bastions,
        tried(other, board, allow_unsigned=True, bastions=bastions, progress=Plain()) as refused,
    ):
        (status,) = delivery.status([board], Plain())
        assert refused == {} and [one.desired for one in status.releases] == [""]
        with remote.connect(board) as session:
            facts = session.call("facts", FactsRequest(), Facts, 60.0)
        assert [(one.digest, one.active) for one in facts.releases] == [(other.digest, False)]
    assert names_on(board) == {}


def test_an_unsigned_bundle_is_measured_where_that_is_allowed_only(make_bundle: MakeBundle, board: Target) -> None:
    bundle, slow, _ = heavy(make_bundle)
    with pytest.raises(TrustError, match=r"unsigned|signed"):
        scales(board, allow_unsigned=False).weigh(bundle, bundle.manifest.profile.name, {slow: None})


def test_boards_are_asked_before_any_work_begins(board: Target) -> None:
    (own, other) = catalog.load_profiles([board.profile, "rpi-zero-2w"])
    scales(board).check([own])
    with pytest.raises(UsageError, match="nothing is built for that"):
        scales(board).check([other])
    with pytest.raises(BoardError, match="gone"):
        scales(msgspec.structs.replace(board, name="gone", port=1)).check([own])


@pytest.mark.parametrize("name", ["kws", "a" * 64, "x" * 46 + "."])
def test_the_passing_name_is_one_that_boards_take_and_nobody_elses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = passing_name(name)
    assert len(own) <= 64 and own != name and ".." not in own
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path))
    assert passing_name(name) != own


def test_a_parent_that_was_measured_in_another_state_decides_nothing(
    make_report: Callable[..., Report], loopback: Target
) -> None:
    parent = make_report()
    slower = make_report(9.0, seed=1)
    state = msgspec.structs.replace(slower.run_context.before, governor="powersave")
    slowed = msgspec.structs.replace(slower, run_context=msgspec.structs.replace(slower.run_context, before=state))
    assert proving._measurement(loopback, slower, parent).against_parent is not None
    found = proving._measurement(loopback, slowed, parent)
    assert found.against_parent is None
    assert any("not held against its float parent: other CPU governors" in reason for reason in found.reasons)
    assert "not held against its float parent" in proving.line(VariantId("x"), found)
