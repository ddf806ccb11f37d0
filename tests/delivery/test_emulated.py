"""A push to a real arm64 system behind a real sshd: the wheels are aarch64's, the self-test runs in them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from edgepack import delivery, measure
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.report import BenchProtocol
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.emulated, pytest.mark.network]
MakeBundle = Callable[..., Bundle]


def test_a_release_runs_on_an_arm64_board(make_bundle: MakeBundle, emulated: Target, progress: Plain) -> None:
    bundle = make_bundle(name="arm", profile="rpi4", locks=())
    (first,) = delivery.push(bundle, [emulated], allow_unsigned=True, downgrade=False, progress=progress)
    assert first.outcome == "activated", first.reason
    (checked,) = delivery.check([emulated], progress)
    assert checked.facts and (checked.facts.machine, checked.facts.board) == ("aarch64", "emulated")
    assert "Raspberry Pi 4" in checked.facts.board_model
    start = time.perf_counter()
    (second,) = delivery.push(bundle, [emulated], allow_unsigned=True, downgrade=False, progress=progress)
    assert second.outcome == "unchanged" and second.bytes_sent == 0, second.reason
    assert time.perf_counter() - start < 10
    (state,) = delivery.status([emulated], progress)
    release = next(one for one in state.releases if one.name == "arm")
    assert (release.verified, release.digest) == (True, bundle.digest)
    protocol = BenchProtocol(processes=1, warmup=1, samples=3, most_samples=20, warm_seconds=0, least_seconds=0)
    (report,) = measure.bench(bundle, [emulated], protocol, "", progress)
    assert (report.validity.verdict, report.validity.codes[0]) == ("invalid", "emulated")
    assert report.run_context.before.governor == "ondemand"
    assert report.processes[0].blocks[0].mhz
