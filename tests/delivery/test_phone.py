"""A phone's file system and permissions: everything below Termux's prefix, the runtime brought by its own packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgepack import boards, delivery, measure
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.profile import RuntimeRange
from edgepack.protocol import Empty, Facts, FactsRequest, StatusReply
from edgepack.remote import connect
from edgepack.report import BenchProtocol
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.emulated, pytest.mark.network]
MakeBundle = Callable[..., Bundle]
FILES = "/data/data/com.termux/files"


@pytest.fixture(scope="module")
def phone(test_home: Path, progress: Plain) -> Iterator[Target]:
    (target,) = boards.up("phone", "emulated", "android-arm64", 1, progress)
    yield target
    boards.down("phone", progress)


def for_phones(make_bundle: MakeBundle, version: str, wanted: str = ">=1.19,<2") -> Bundle:
    runtimes = {"onnxruntime": RuntimeRange(wanted, "system")}
    return make_bundle(version, name="app", profile="android-arm64", runtimes=runtimes, locks=())


def push(bundle: Bundle, phone: Target) -> delivery.PushResult:
    (result,) = delivery.push(bundle, [phone], allow_unsigned=True, downgrade=False, progress=Plain())
    return result


def test_it_says_that_it_is_a_phone(phone: Target) -> None:
    with connect(phone) as session:
        facts = session.call("facts", FactsRequest(), Facts, 60.0)
    assert (facts.os, facts.board_model) == ("Android 14", "edgepack Termux stand-in on glibc")
    assert (facts.machine, facts.libc, facts.cores) == ("aarch64", "glibc", 8)
    assert (facts.root, facts.board) == (f"{FILES}/home/.edgepack", "emulated")
    assert facts.conditions.temperature_c is None and facts.conditions.load_1m is None


def test_a_runtime_out_of_range_is_refused_before_anything_is_sent(make_bundle: MakeBundle, phone: Target) -> None:
    result = push(for_phones(make_bundle, "9.0.0", ">=1.19,<1.20"), phone)
    assert (result.outcome, result.bytes_sent) == ("failed", 0)
    assert "the board's own onnxruntime is 1." in result.reason and "needs >=1.19,<1.20" in result.reason
    assert "pkg install" in result.reason
    with connect(phone) as session:
        reply = session.call("status", Empty(), StatusReply, 60.0)
    assert not [one for one in reply.releases if one.version == "9.0.0"]


def test_releases_come_run_and_go_back(make_bundle: MakeBundle, phone: Target) -> None:
    first, second = for_phones(make_bundle, "1.0.0"), for_phones(make_bundle, "1.1.0")
    result = push(first, phone)
    assert result.outcome == "activated", result.reason
    (report,) = measure.bench(
        first, [phone], BenchProtocol(processes=1, warmup=1, samples=3, warm_seconds=0, least_seconds=0), "", Plain()
    )
    assert report.runtime.lock in ("", None) and report.validity.verdict == "invalid"
    assert report.processes[0].vmhwm_kb > 1000
    assert push(second, phone).outcome == "activated"
    (back,) = delivery.rollback([phone], "app", Plain())
    assert (back.outcome, back.release) == ("rolled-back", first.digest)
    (state,) = delivery.status([phone], Plain())
    assert [(one.version, one.active, one.verified) for one in state.releases] == [("1.0.0", True, True)]
