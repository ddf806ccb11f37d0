"""`edgepack bench` on boards over real SSH."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edgepack import delivery, measure
from edgepack.bench import Side
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError, InputError
from edgepack.protocol import Beat
from edgepack.report import BenchProtocol
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]
QUICK = BenchProtocol(processes=2, warmup=2, samples=10, most_samples=500, warm_seconds=0.0, least_seconds=0.0)


def test_a_pushed_release_is_measured_where_it_runs(make_bundle: MakeBundle, board: Target) -> None:
    bundle = make_bundle()
    with pytest.raises(BoardError, match="not installed there") as error:
        measure.bench(bundle, [board], QUICK, "", Plain())
    assert "push" in error.value.advice
    delivery.push(bundle, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    heard: list[Beat] = []
    (report,) = measure.bench(bundle, [board], QUICK, "", Plain(), heard.append)
    assert {(beat.target, beat.process) for beat in heard} == {(board.name, 1), (board.name, 2)}
    assert report.bundle.digest == bundle.digest
    assert report.variant == bundle.manifest.default
    assert report.runtime.lock == bundle.manifest.locks[0].digest
    assert report.validity.verdict == "suspect"
    assert "a loopback board" in report.validity.reasons[0]
    with pytest.raises(InputError, match="holds no variant"):
        measure.bench(bundle, [board], QUICK, "other", Plain())


def test_two_take_turns_on_a_board(make_bundle: MakeBundle, board: Target) -> None:
    bundle = make_bundle()
    delivery.push(bundle, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    ref = measure.reference(bundle)
    sides = (Side(ref), Side(ref, bundle.manifest.default))
    (pair,) = measure.bench_pair(sides, [board], QUICK, 0.05, Plain())
    assert [report.variant for report in pair.reports] == [bundle.manifest.default] * 2
    assert pair.comparison.interval[0] <= pair.comparison.ratio <= pair.comparison.interval[1]
    with pytest.raises(InputError, match="both sides are"):
        measure.bench_pair((sides[0], sides[0]), [board], QUICK, 0.05, Plain())


def test_an_unreachable_board_is_named_after_the_others_were_measured(make_bundle: MakeBundle, board: Target) -> None:
    bundle = make_bundle()
    delivery.push(bundle, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    devices = [msgspec.structs.replace(board, name=name, board=None) for name in ("a", "b")]
    assert [report.run_context.target for report in measure.bench(bundle, devices, QUICK, "", Plain())] == ["a", "b"]
    gone = msgspec.structs.replace(board, name="gone", port=1, board=None)
    with pytest.raises(BoardError, match="gone"):
        measure.bench(bundle, [devices[0], gone], QUICK, "", Plain())
