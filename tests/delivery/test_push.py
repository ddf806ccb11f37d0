"""A push to a real SSH server: installs, tests in the real runtime, switches, and knows when there is nothing to do."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack import delivery
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery import PushResult
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]


def push(bundle: Bundle, target: Target, *, downgrade: bool = False, **options: object) -> PushResult:
    (result,) = delivery.push(
        bundle, [target], allow_unsigned=True, downgrade=downgrade, progress=Plain(), **options
    )
    return result


def test_a_release_is_active_and_the_second_push_changes_nothing(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    bundle = make_bundle()
    first = push(bundle, board)
    assert (first.outcome, first.exit_code) == ("activated", 0), first
    assert first.bytes_sent > bundle.manifest.variants[0].size
    current = root / "current/sum"
    assert current.resolve().name == bundle.digest.removeprefix("sha256:")
    assert (current / bundle.manifest.default).read_bytes() == bundle.open_blob(
        bundle.manifest.variants[0].digest
    ).read()
    start = time.perf_counter()
    second = push(bundle, board)
    seconds = time.perf_counter() - start
    assert (second.outcome, second.bytes_sent) == ("unchanged", 0) and "already active" in second.reason
    assert seconds < 1.0
