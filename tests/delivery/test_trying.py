"""A LoadGen-style load and known samples on a board over real SSH, the baseline and the history that `bench` keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgepack import delivery, history, measure, trying
from edgepack.bundle import Bundle
from edgepack.cli import run
from edgepack.cli.progress import Plain
from edgepack.device import run as models
from edgepack.device import samples
from edgepack.errors import BoardError, InputError, UsageError
from edgepack.protocol import AccuracyReply, AccuracyRequest
from edgepack.report import BenchProtocol, Report
from edgepack.target import Target
from edgepack.trials import Load

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]
QUICK = BenchProtocol(processes=2, warmup=2, samples=10, most_samples=500, warm_seconds=0.0, least_seconds=0.0)


@pytest.fixture(scope="module")
def pushed(make_bundle: MakeBundle, loopback: Target) -> Bundle:
    bundle = make_bundle(name="tried")
    delivery.push(bundle, [loopback], allow_unsigned=True, downgrade=False, progress=Plain())
    return bundle


@pytest.fixture(scope="module")
def reports(pushed: Bundle, loopback: Target) -> tuple[Report, ...]:
    return measure.bench(pushed, [loopback], QUICK, "", Plain())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 samples of four features, all of class 0: the model's three outputs are equal, and a tie goes to the first."""
    path = tmp_path_factory.mktemp("data") / "evaluation.npz"
    x = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    np.savez(path, x=x, y=np.zeros(100, np.int64))
    return path


@pytest.mark.parametrize("kind", ["SingleStream", "Server", "Offline"])
def test_a_load_is_scheduled_on_the_board(kind: str, reports: tuple[Report, ...], loopback: Target) -> None:
    server = {"target_qps": 800.0} if kind == "Server" else {}
    load = msgspec.convert({"kind": kind, "seconds": 0.3, **server}, Load)
    limit = 1000.0 if kind == "Server" else 0.0
    (report,) = trying.under_load([loopback], reports, load, limit, Plain())
    found = report.scenario
    assert found is not None
    assert (found.kind, found.style) == (kind, "LoadGen-style")
    assert found.runtime_version == report.runtime.version
    assert found.taken_s >= 0.3
    assert len(found.latencies_ns) >= {"SingleStream": 64, "Server": 662, "Offline": 1}[kind]
    assert found.met, found.reasons
    assert report.summary == reports[0].summary


def test_a_scenario_that_makes_no_sense_is_refused_before_anything_runs() -> None:
    for load, limit in (
        (Load(kind="Server"), 5.0),
        (Load(kind="Server", target_qps=5), 0.0),
        (Load(kind="Offline"), 5.0),
    ):
        with pytest.raises(UsageError, match=r"Offline takes no|needs arrivals"):
            trying.check(load, limit)
    assert run(["bench", "x", "y", "--target-qps", "4"]) == 2
    assert run(["bench", "x", "y", "--part", "0.5"]) == 2
    assert run(["bench", "x", "y", "--ab", "a", "b", "--baseline", "last"]) == 2


def test_the_board_s_answers_are_held_against_this_machine_s(
    pushed: Bundle, reports: tuple[Report, ...], loopback: Target, data: Path, test_home: Path
) -> None:
    (report,) = trying.accuracy(
        pushed, [loopback], reports, trying.questions(pushed, str(data), 0.25, "top1", Plain()), Plain()
    )
    found = report.accuracy
    assert found is not None
    assert (found.samples, found.available, found.metric) == (25, 100, "top1")
    assert found.host == found.board == found.agreement == 1.0
    assert (found.differing, found.within) == (0, True)
    assert found.max_abs < 1e-5
    assert found.host_runtime == found.board_runtime == f"onnxruntime {report.runtime.version}"
    blobs = test_home / "boards" / loopback.name / "home/.edgepack/blobs/sha256"
    assert not [path for path in blobs.iterdir() if path.read_bytes()[:2] == b"PK" and path.stat().st_size < 2000][1:]


def test_a_board_that_answers_differently_is_seen(make_bundle: MakeBundle, board: Target, tmp_path: Path) -> None:
    """The board runs another model under the bundle's name, as a core with other kernels would answer."""
    bundle, other = make_bundle(name="tried"), make_bundle(name="tried", bias=-2.5)
    delivery.push(bundle, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    reports = measure.bench(bundle, [board], QUICK, "", Plain())
    x = np.ones((10, 4), np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3] * 5)
    (report,) = trying.accuracy(
        other, [board], reports, trying.questions(other, str(tmp_path / "data.npz"), 1.0, "mae", Plain()), Plain()
    )
    found = report.accuracy
    assert found is not None
    assert (found.board, found.host, found.agreement, found.within) == (0.0, 3.5, None, False)
    assert found.max_abs == pytest.approx(3.5, rel=1e-4)


def test_nobody_can_have_a_release_s_file_removed(pushed: Bundle, loopback: Target) -> None:
    record = pushed.manifest.variants[0]
    request = AccuracyRequest(name="tried", release=pushed.digest, variant=record.id, blob=record.golden)
    with measure.visit(loopback) as (session, _), pytest.raises(InputError, match="belongs to an installed release"):
        session.call("accuracy", request, AccuracyReply, 60.0)
    (state,) = delivery.status([loopback], progress=Plain())
    assert all(one.verified for one in state.releases if one.name == "tried")


def test_the_command_shows_what_it_did_beside_the_headline(
    pushed: Bundle, loopback: Target, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ["bench", str(pushed.path), loopback.name, "--processes", "2", "--samples", "10"]
    asked = [
        "--scenario",
        "multi-stream",
        "--duration",
        "0.1",
        "--accuracy",
        str(data),
        "--metric",
        "top1",
        "--part",
        "0.1",
    ]
    page = tmp_path / "page.html"
    assert run([*bench, *asked, "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    text = page.read_text()
    for said in (
        "MultiStream",
        "10 of 100 samples",
        "a loopback board: this machine was measured",
        "latency over time",
    ):
        assert said.lower() in text.lower(), said
    assert "<script" not in text and page.stat().st_size < 3_000_000
    assert "MultiStream" in shown
    assert "(99%)" in shown
    assert "top1 1.0000 on the board" in shown
    assert "10 of 100 samples, the same answer on 100.00% of them" in shown
    report = history.recall("tried", loopback.name, pytest.fail)[-1]
    assert report.scenario is not None and report.scenario.load.samples_per_query == 8
    assert report.work is not None and report.work.matrix == 12


def test_a_metric_that_is_gone_and_data_that_does_not_fit_are_named(pushed: Bundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "wide.npz", x=np.ones((4, 5), np.float32), y=np.zeros(4))
    with pytest.raises(InputError, match=r"wide\.npz"):
        trying.questions(pushed, str(tmp_path / "wide.npz"), 1.0, "top1", Plain())
    with pytest.raises(UsageError, match="--part"):
        trying.questions(pushed, str(tmp_path / "wide.npz"), 0.0, "top1", Plain())


def test_bench_keeps_every_report_and_holds_it_against_the_last(
    pushed: Bundle, loopback: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ["bench", str(pushed.path), loopback.name, "--quick", "--json"]
    before = len(history.recall("tried", loopback.name, pytest.fail))
    assert run([*bench, "--baseline", "0.0.1"]) == 3
    assert "no baseline '0.0.1'" in capsys.readouterr().err
    assert len(history.recall("tried", loopback.name, pytest.fail)) == before + 1
    assert run([*bench, "--baseline", "last", "--margin", "1000"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["comparisons"][0]["margin"] == 1000
    fast = history.recall("tried", loopback.name, pytest.fail)[-1]
    sped_up = [
        msgspec.structs.replace(one, samples_ns=tuple(max(1, ns // 50) for ns in one.samples_ns))
        for one in fast.processes
    ]
    history.keep(
        msgspec.structs.replace(
            fast,
            processes=tuple(sped_up),
            run_context=msgspec.structs.replace(fast.run_context, started="2099-01-01T00:00:00Z"),
        )
    )
    assert run([*bench, "--baseline", "last", "--margin", "0.05"]) == 4


def test_two_take_turns_from_the_command_line(
    pushed: Bundle, loopback: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = ["bench", str(pushed.path), loopback.name, "--quick", "--margin", "1000", "--ab", pushed.manifest.default]
    assert run([*bench, str(pushed.path), "--ops", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [report["variant"] for report in document["reports"]] == [pushed.manifest.default] * 2
    assert document["comparison"]["margin"] == 1000
    assert all(report["ops"] for report in document["reports"]) or all(
        report["notes"] for report in document["reports"]
    )
    assert run([*bench, str(pushed.path), "--baseline", "last"]) == 2
    assert run([*bench, pushed.manifest.default]) == 3
    assert "both sides are" in capsys.readouterr().err


def test_what_one_board_measured_is_kept_where_another_fails(
    pushed: Bundle, loopback: Target, board: Target, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The second board has no release of it."""
    before = len(history.recall("tried", loopback.name, pytest.fail))
    out = tmp_path / "out"
    assert run(["bench", str(pushed.path), loopback.name, board.name, "--quick", "--out", str(out)]) == 5
    (new,) = history.recall("tried", loopback.name, pytest.fail)[before:]
    assert [path.name for path in out.iterdir()] == [f"{loopback.name}.{new.variant}.json"]
    said = capfd.readouterr().err
    assert "what was measured before that is kept" in said and f"target {board.name!r}" in said


def test_wrong_samples_are_said_before_a_board_is_asked(
    pushed: Bundle, loopback: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(history.recall("tried", loopback.name, pytest.fail))
    bench = ["bench", str(pushed.path), loopback.name, "--metric", "top1", "--accuracy", str(tmp_path / "none.npz")]
    assert run(bench) == 3
    assert len(history.recall("tried", loopback.name, pytest.fail)) == before
    assert "none.npz" in capsys.readouterr().err


def test_answers_that_are_no_numbers_name_the_samples_or_the_board(
    pushed: Bundle, reports: tuple[Report, ...], loopback: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Samples so large that their sum overflows: here, and, where this machine answered otherwise, on the board."""
    x = np.ones((2, 4), np.float32)
    x[1] = 3e38
    np.savez(tmp_path / "huge.npz", x=x, y=np.zeros(2, np.int64))
    asked = trying.questions(pushed, str(tmp_path / "huge.npz"), 1.0, "top1", Plain())
    wanted = "NaN or infinity in output 0 to 1 of 2 samples, the first of them number 1"
    with pytest.raises(InputError, match=rf"huge\.npz: tried.* answers {wanted} here"):
        trying.accuracy(pushed, [loopback], reports, asked, Plain())
    monkeypatch.setattr(trying, "_here", lambda *_: ((np.ones((2, 3), np.float32),), "another runtime"))
    with pytest.raises(BoardError, match=f"target '{loopback.name}': tried.* answered {wanted}"):
        trying.accuracy(pushed, [loopback], reports, asked, Plain())


def test_a_model_of_a_fixed_batch_says_so(tmp_path: Path) -> None:
    class Tensor:
        name, shape = "image", (1, 8)

    class Opened:
        inputs = [Tensor]  # noqa: RUF012

    samples.ensure_batch(Opened, 1)
    with pytest.raises(models.ModelError, match=r"--batch 4: the first axis of input 'image' is fixed at 1"):
        samples.ensure_batch(Opened, 4)


def test_variants_beside_the_active_one_are_pushed_and_measured(
    pushed: Bundle, loopback: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (record.id for record in pushed.manifest.variants)
    bench = ["bench", str(pushed.path), loopback.name, "--quick", "--variant", second, "--json"]
    assert run(["push", str(pushed.path), loopback.name, "--allow-unsigned", "--variant", "other"]) == 3
    assert run(["push", str(pushed.path), loopback.name, "--allow-unsigned", "--variant", "all"]) == 0
    capsys.readouterr()
    assert run(bench) == 0
    assert json.loads(capsys.readouterr().out)["variant"] == second
    page = tmp_path / "turns.html"
    turns = ["bench", str(pushed.path), loopback.name, "--quick", "--margin", "1000", "--json", "--ab", first, second]
    assert run([*turns, "--html", str(page)]) == 0
    text = page.read_text()
    assert "Against each other" in text and "pair 2" in text and f"({second}) on {loopback.name}" in text
    assert [one["variant"] for one in json.loads(capsys.readouterr().out)["reports"]] == [first, second]
