"""kill -9 of the agent, of the controller, at random and at every state that has a name: old or new, whole, and it goes on."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgepack import boards, delivery, digest
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery.delta.align import Layout, align
from edgepack.delivery.delta.encode import encode, prepare
from edgepack.protocol import BlobPart, ReceiveRequest, RemoveRequest
from edgepack.target import Target

pytestmark = [pytest.mark.faults]

Amount = Callable[[str], int]
UNDER_WAY = (1 << 20) + (1 << 18)
"""What a killed agent takes along: the pipe to it, which it makes a MiB large, and one chunk."""


def test_agents_killed_at_random(
    updating: Any, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    row = "random kills of the agent"
    first = updating.copy(tmp_path / "first")
    start = time.monotonic()
    first.rig.push(first.steps)
    cycle = 1.1 * (time.monotonic() - start)
    left = amount(row)
    needed = len(updating.steps.data)
    while left > 0:
        one = updating.copy(tmp_path / f"kill-{left}")
        sent = kills = 0
        for _ in range(min(left, chance.choice((1, 1, 2, 3, 5)))):  # a board that dies once dies again
            with tally.fault(row):
                sent += push_and_kill(one, chance.uniform(0, cycle))
                kills += 1
                one.rig.assert_whole(one.old, one.new)
        rest = one.rig.resumed(one.steps)
        one.rig.push(rest)
        sent += len(rest.data)
        one.rig.assert_whole(one.new)
        resent = max(0, sent - needed)
        tally.add(row, bytes_needed=needed, bytes_resent=resent, most_resent_a_kill=resent // kills)
        assert resent <= kills * UNDER_WAY, f"{resent} bytes were sent twice by {kills} kills"
        shutil.rmtree(one.rig.root)
        left -= kills


def push_and_kill(one: Any, seconds: float) -> int:
    """Push from where the board is; the agent that runs after `seconds` is killed. The bytes that were sent."""
    steps = one.rig.resumed(one.steps)
    limit = time.monotonic() + seconds
    sent = 0
    for verb, request, data in steps.verbs():
        if verb == "receive" and not data:
            continue
        done = one.rig.run(verb, request, data, kill_after=limit - time.monotonic())
        sent += done.sent
        if done.killed:
            break
        assert done.code == 0, done
    return sent


@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_agents_killed_at_every_named_state(
    stages: list[Any], chance: random.Random, amount: Amount, tally: Any, tmp_path: Path, always: bool
) -> None:
    """always: the same state kills it again and again, until somebody repairs the board."""
    row = f"kills at named states, {'again and again' if always else 'once'}"
    cases = [(stage, state, when) for stage in stages for state in stage.states for when in WHEN]
    wanted = amount("kills at named states")
    if wanted < len(cases):
        cases = chance.sample(cases, wanted)
    for number, (stage, state, when) in enumerate(cases):
        verb, request, data, allowed = stage.verb, stage.request, stage.data, stage.allowed
        copy = stage.before.copy(tmp_path / f"state-{number}")
        with tally.fault(row, kills=0):
            for _ in range(3 if always else 1):
                done = copy.rig.run(verb, request, data, hook={"at": state, "when": when})
                tally.add(row, kills=int(done.killed))
                assert done.code in (0, 1, -9), done
                copy.rig.assert_whole(*allowed)
                if verb == "receive":  # the controller asks what is there, as it does on every push
                    again = copy.rig.resumed(copy.steps)
                    request, data = again.send, again.data
            copy.rig.ok(verb, request, data)
            copy.rig.assert_whole(*allowed)
        shutil.rmtree(copy.rig.root)


def test_agents_killed_while_a_delta_becomes_a_model(
    updating: Any, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """At each of its states, by kill -9 and by a full disk: the model is not there or whole, and it arrives after."""
    row = "kills and errors in a delta"
    rig = updating.rig
    old = max((rig.root / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size).read_bytes()
    new = old[:5000] + chance.randbytes(3000) + old[8000:] + b"more"
    goal = digest.of_bytes(new)
    payload = delta_of(new, old)
    request = ReceiveRequest((BlobPart(digest.of_bytes(payload), len(payload), 0, goal, len(new)),))
    cases = [
        (state, when, number)
        for state in rig.states_of("receive", request, payload, tmp_path)
        for when, number in (("before", 0), ("after", 0), ("before", errno.ENOSPC))
    ]
    if (wanted := amount("kills at named states")) < len(cases):
        cases = chance.sample(cases, wanted)
    for number, (state, when, error) in enumerate(cases):
        copy = updating.copy(tmp_path / f"delta-{number}")
        hook = {"at": state, "when": when, "errno": error}
        with tally.fault(row):
            done = copy.rig.run("receive", request, payload, hook=hook)
            assert done.code in (0, 1, -9) and "Traceback" not in done.stderr, (hook, done)
            copy.rig.assert_whole(copy.old)
            (found, *begun) = copy.rig.states((goal,))
            assert found["complete"] in (True, False)
            have = next((one["bytes"] for one in begun if one["digest"] == digest.of_bytes(payload)), 0)
            part = structs.replace(request.blobs[0], offset=have)
            copy.rig.ok("receive", ReceiveRequest((part,)), payload[have:])
            assert copy.rig.states((goal,))[0]["complete"]
        shutil.rmtree(copy.rig.root)


def delta_of(new: bytes, old: bytes) -> bytes:
    files = io.BytesIO(new), io.BytesIO(old)
    recipe = prepare(align(Layout((), len(new)), Layout((), len(old))), len(new), *files, digest.of_bytes(old))
    return b"".join(encode(recipe, "z", *files))


WHEN = ("before", "after")


@pytest.mark.board
def test_controllers_killed_at_random(
    make_release: Callable[..., Bundle], chance: random.Random, amount: Amount, tally: Any, board: Target
) -> None:
    row = "random kills of the controller"
    old, new = make_release("1.0.0"), make_release("1.1.0", size=6 << 20)
    command = [sys.executable, "-m", "edgepack", "push", str(new.path), board.name, "--allow-unsigned", "--json"]
    (first,) = delivery.push(old, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    assert first.outcome == "activated", first
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    cycle = 1.1 * (time.monotonic() - start)
    for _ in range(amount(row)):
        (back,) = delivery.push(old, [board], allow_unsigned=True, downgrade=True, progress=Plain())
        assert back.outcome == "activated", back
        forget(board, new)
        with tally.fault(row):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as controller:
                time.sleep(chance.uniform(0, cycle))
                controller.kill()
            check_board(board, "1.0.0", "1.1.0")
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        (result,) = json.loads(done.stdout)["targets"]
        size = new.manifest.variants[0].size
        tally.add(row, bytes_needed=size, bytes_sent_by_the_next=result["bytes_sent"])
        check_board(board, "1.1.0")


def forget(board: Target, bundle: Bundle) -> None:
    """Remove a release and its model from a loopback board, so that the next push sends it."""
    root = board_root(board)
    shutil.rmtree(root / "releases/sum" / bundle.digest.partition(":")[2], ignore_errors=True)
    for kind in ("sha256", "partial"):
        (root / "blobs" / kind / bundle.manifest.variants[0].digest.partition(":")[2]).unlink(missing_ok=True)


def board_root(board: Target) -> Path:
    return Path(board.identity).parent / "home/.edgepack"


def check_board(board: Target, *versions: str) -> None:
    (state,) = delivery.status([board], Plain())
    assert state.reachable, state.reason
    (release,) = state.releases
    assert release.active and release.version in versions and release.verified is True and state.log_intact, state


def test_of_two_controllers_exactly_one_wins(
    updating: Any, plan: Any, make_release: Callable[..., Bundle], amount: Amount, tally: Any, tmp_path: Path
) -> None:
    row = "races of two controllers"
    rig = updating.rig
    theirs = plan(rig, make_release("1.2.0"))
    both = (updating.steps, theirs)
    for steps in both:
        for verb, request, data in steps.verbs()[:-1]:
            rig.ok(verb, request, data)
    for number in range(amount(row)):
        copy = rig.copy(tmp_path / f"race-{number}")
        asked = [
            structs.replace(steps.activate, who=f"{who}@host") for steps, who in zip(both, ("ann", "bob"), strict=True)
        ]
        with tally.fault(row), ThreadPoolExecutor(2) as pool:
            done = list(pool.map(lambda one, copy=copy: copy.run("activate", one), asked))
            won = [index for index, one in enumerate(done) if one.code == 0]
            assert len(won) == 1, done
            assert copy.active() == asked[won[0]].release
            error = done[1 - won[0]].reply["error"]
            assert error["kind"] == "board" and f"{('ann', 'bob')[won[0]]}@host" in error["what"], error
            copy.assert_whole(asked[won[0]].release)
        shutil.rmtree(copy.root)


def test_cleaning_up_beside_an_install(
    updating: Any, plan: Any, make_release: Callable[..., Bundle], amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """Another name's release comes, goes and is cleaned up after, again and again, while this one is pushed."""
    row = "clean-ups beside an install"
    rig = updating.rig
    other = plan(rig, make_release("3.0.0", name="other", size=1 << 16))
    rig.push(other)
    left = amount(row)
    round_ = 0
    while left > 0:
        copy = replace(updating, rig=rig.copy(tmp_path / f"gc-{round_}"))
        for path in (copy.rig.root / "blobs/sha256").iterdir():  # nothing is kept for being young
            os.utime(path, (1, 1))
        with ThreadPoolExecutor(1) as pool:
            push = pool.submit(copy.rig.push, copy.steps)
            while not push.done() and left > 0:
                with tally.fault(row):
                    copy.rig.ok("remove", RemoveRequest(name="other"))
                    copy.rig.assert_whole(copy.old, copy.new)
                left -= 1
            push.result()
        copy.rig.assert_whole(copy.new)
        shutil.rmtree(copy.rig.root)
        round_ += 1


@pytest.fixture
def board(test_home: Path, progress: Plain) -> Any:
    name = f"faults-{os.getpid()}"
    (target,) = boards.up(name, "loopback", "", 1, progress)
    yield target
    boards.down(name, progress)
