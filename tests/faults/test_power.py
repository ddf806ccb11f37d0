"""The plug of a whole arm64 machine is pulled during a push; it boots cold, and what is active is whole."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from edgepack import boards, delivery, wheels
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.lock import Platform, RuntimeLock
from edgepack.profile import RuntimeRange
from edgepack.target import Target

pytestmark = [pytest.mark.faults, pytest.mark.machine, pytest.mark.network]

NAME = f"faults-machine-{os.getpid()}"


def test_power_cuts(
    lock: RuntimeLock,
    make_release: Callable[..., Bundle],
    chance: random.Random,
    amount: Callable[[str], int],
    tally: Any,
    progress: Plain,
) -> None:
    row = "power cuts"
    wanted = amount(row)
    (target,) = boards.up(NAME, "machine", "", 1, progress)
    try:
        cut_again_and_again(target, machine_lock(lock, progress), make_release, chance, wanted, tally, progress)
    finally:
        boards.down(NAME, progress)


def machine_lock(lock: RuntimeLock, progress: Plain) -> RuntimeLock:
    """The tiny runtime over a real numpy for the machine's Debian."""
    found = wheels.lock_for(
        "onnxruntime", RuntimeRange(">=1.19,<2"), Platform("3.11", "aarch64", "glibc", "2.36"), progress
    )
    (numpy,) = (one for one in found.wheels if one.name == "numpy")
    wheels.fetch(structs.replace(found, wheels=(numpy,)), progress)
    return structs.replace(
        lock, python="3.11", machine="aarch64", libc="glibc", needs_glibc="2.36", wheels=(*lock.wheels, numpy)
    )


def cut_again_and_again(
    target: Target,
    lock: RuntimeLock,
    make_release: Callable[..., Bundle],
    chance: random.Random,
    wanted: int,
    tally: Any,
    progress: Plain,
) -> None:
    row = "power cuts"
    old, new = (make_release(version, profile="rpi4", locks=(lock,)) for version in ("1.0.0", "1.1.0"))
    assert push(old, target).outcome == "activated"
    boards.snapshot(NAME)
    start = time.monotonic()
    first = push(new, target)
    assert first.outcome == "activated", first
    cycle = 1.1 * (time.monotonic() - start)
    for number in range(wanted):
        target = boards.restore(NAME, progress)
        with tally.fault(row):
            pushing = threading.Thread(target=push, args=(new, target))
            pushing.start()
            time.sleep(chance.uniform(0, cycle))
            boards.cut(NAME)
            pushing.join()
            (target,) = boards.up(NAME, "machine", "", 1, progress)
            version = check(target, "1.0.0", "1.1.0")
        tally.add(row, **{f"then_{version}": 1})
        if number % 3:  # it costs as much as the cut itself
            continue
        last = push(new, target)
        assert last.outcome in ("activated", "unchanged"), last
        tally.add(row, bytes_needed=first.bytes_sent, bytes_sent_by_the_next=last.bytes_sent)
        check(target, "1.1.0")


def push(bundle: Bundle, target: Target) -> delivery.PushResult:
    (result,) = delivery.push(bundle, [target], allow_unsigned=True, downgrade=False, progress=Plain())
    return result


def check(target: Target, *versions: str) -> str:
    (state,) = delivery.status([target], Plain())
    assert state.reachable, state.reason
    (release,) = state.releases
    assert release.active and release.version in versions and release.verified is True and state.log_intact, state
    return release.version
