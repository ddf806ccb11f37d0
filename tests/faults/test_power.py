"""The plug of a whole arm64 machine is pulled during a push; it boots cold, and what is active is whole."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from msgspec import structs

from edgepack import boards, delivery, wheels
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.lock import Platform, RuntimeLock
from edgepack.ports import Progress, Silent
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
    start, heard = time.monotonic(), Heard()
    first = push(new, target, heard)
    assert first.outcome == "activated", first
    cycle = 1.1 * (time.monotonic() - start)
    switch = 1.1 * (time.monotonic() - heard.at)
    for number in range(wanted):
        target, heard = boards.restore(NAME, progress), Heard()
        with tally.fault(row):
            pushing = threading.Thread(target=push, args=(new, target, heard))
            pushing.start()
            if number % 2:  # around the switch, which is short: anywhere in a push would rarely meet it
                assert heard.switching.wait(60 + 10 * cycle), "it never came to the switch"
                time.sleep(chance.uniform(0, switch))
            else:
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


class Heard(Silent):
    """Hears when a push comes to the switch. at: when that was"""

    def __init__(self) -> None:
        self.switching, self.at = threading.Event(), 0.0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        if "activate" in title:
            self.at = time.monotonic()
            self.switching.set()
        yield


def push(bundle: Bundle, target: Target, progress: Progress | None = None) -> delivery.PushResult:
    (result,) = delivery.push(bundle, [target], allow_unsigned=True, downgrade=False, progress=progress or Plain())
    return result


def check(target: Target, *versions: str) -> str:
    (state,) = delivery.status([target], Plain())
    assert state.reachable, state.reason
    (release,) = state.releases
    assert release.active and release.version in versions and release.verified is True and state.log_intact, state
    return release.version
