"""kill -9 of the agent after every change of the disk, and of the controller at random: old or new, whole, and it goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct, structs

from edgepack import actions, delivery, digest
from edgepack.actions import Activate, Content, FromLock, Install, Provide, Send, Wish
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.device import facts, journal
from edgepack.lock import RuntimeLock
from edgepack.protocol import ActivateRequest, BlobPart, Facts, ReceiveRequest, RemoveRequest, RollbackRequest
from edgepack.remote import agent_pyz
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]
PYTHON = getattr(sys, "_base_executable", sys.executable)

# Runs the agent, but dies right before or right after the Nth call that changes the disk.
KILLER = """
import os, runpy, signal, sys
number, after = int(sys.argv[1]), sys.argv[2] == "after"
sys.argv = sys.argv[3:]
seen = 0
def deadly(real):
    def call(*args, **options):
        global seen
        seen += 1
        if seen == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        mine = seen
        try:
            return real(*args, **options)
        finally:
            if mine == number:
                os.kill(os.getpid(), signal.SIGKILL)
    return call
for name in ("replace", "rename", "link", "symlink", "unlink", "rmdir", "fsync", "mkdir", "chmod"):
    setattr(os, name, deadly(getattr(os, name)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Board:
    """A board's root without SSH: the agent as a process of its own."""

    root: Path
    pyz: Path
    killer: Path

    def ask(self, verb: str, request: Struct | None = None, data: bytes = b"", seconds: int = 120) -> dict[str, Any]:
        done = self._run([PYTHON, "-I", "-S", str(self.pyz)], verb, request, data, seconds)
        assert done.returncode in (0, 1), done.stderr.decode()
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    def ask_and_die(self, number: int, when: str, verb: str, request: Struct, data: bytes = b"") -> bool:
        """Whether it was killed: it ends on its own when it changes the disk fewer times than that."""
        command = [PYTHON, "-I", str(self.killer), str(number), when, str(self.pyz)]
        done = self._run(command, verb, request, data)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        return done.returncode != 0

    def _run(
        self, command: list[str], verb: str, request: Struct | None, data: bytes, seconds: int = 120
    ) -> subprocess.CompletedProcess[bytes]:
        line = (msgspec.json.encode(request) if request else b"{}") + b"\n"
        return subprocess.run([*command, verb, str(self.root), str(seconds)], input=line + data, capture_output=True)

    def ok(self, verb: str, request: Struct, data: bytes = b"") -> dict[str, Any]:
        reply = self.ask(verb, request, data)
        assert "error" not in reply, reply
        return reply

    def copy(self, folder: Path) -> Board:
        shutil.copytree(self.root, folder, symlinks=True)
        return replace(self, root=folder)

    def active(self) -> str:
        link = self.root / "current/sum"
        return f"sha256:{link.resolve(strict=True).name}" if link.is_symlink() else ""

    def assert_whole(self, allowed: set[str]) -> None:
        """`current` resolves to a release of `allowed`, and every file of it hashes to what its manifest says."""
        assert self.active() in allowed
        for release in facts.releases_of(str(self.root), "", True):
            if release["active"]:
                assert release["verified"] is True, release
        assert journal.check(str(self.root)).intact


@dataclass(frozen=True)
class Steps:
    """The requests of one push, as the planner makes them."""

    send: ReceiveRequest
    data: bytes
    provide: Struct
    install: Struct
    activate: ActivateRequest


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("agent")
    (folder / "agent.pyz").write_bytes(agent_pyz())
    (folder / "killer.py").write_text(KILLER)
    return Board(folder / "root", folder / "agent.pyz", folder / "killer.py")


@pytest.fixture(scope="module")
def plan(lock: RuntimeLock, test_home: Path) -> Callable[[Board, Bundle], Steps]:
    def make(board: Board, bundle: Bundle) -> Steps:
        manifest = bundle.manifest
        content = Content(
            digest=bundle.digest,
            manifest=manifest,
            manifest_digest=digest.of_bytes(bundle.manifest_bytes),
            manifest_size=len(bundle.manifest_bytes),
        )
        said = msgspec.convert(board.ask("facts"), Facts)
        wish = Wish(target="t", profiles=(manifest.profile.name,), machine=said.machine, allow_unsigned=True)
        providers = {lock.runtime: FromLock(lock)}
        cleared = structs.replace(said, runtimes=())
        found = actions.plan_push(content, wish, cleared, manifest.variants[0], providers)
        send, provide, install, activate = found
        assert isinstance(send, Send) and isinstance(provide, Provide)
        assert isinstance(install, Install) and isinstance(activate, Activate)
        wheel = lock.wheels[0]
        kept = test_home / "wheels/sha256" / digest.hex_of(wheel.digest) / wheel.filename
        sources = {wheel.digest: kept.read_bytes(), content.manifest_digest: bundle.manifest_bytes}
        data = [sources.get(p.digest) or bundle.open_blob(p.digest).read() for p in send.parts]
        return Steps(ReceiveRequest(send.parts), b"".join(data), provide.request, install.request, activate.request)

    return make


Plan = Callable[[Board, Bundle], Steps]


@pytest.fixture(scope="module")
def template(bare: Board, make_bundle: MakeBundle, plan: Plan) -> tuple[Board, str, Steps]:
    old, new = make_bundle("1.0.0"), make_bundle("1.1.0", bias=2.0)
    steps = plan(bare, old)
    bare.ok("receive", steps.send, steps.data)
    bare.ok("runtime", steps.provide)
    bare.ok("install", steps.install)
    bare.ok("activate", steps.activate)
    assert bare.active() == old.digest
    return bare, old.digest, plan(bare, new)


@pytest.fixture
def updated(template: tuple[Board, str, Steps], tmp_path: Path) -> tuple[Board, str, Steps]:
    """A board that runs 1.0.0, its digest, and the steps to 1.1.0, none of them done."""
    board, old, steps = template
    return board.copy(tmp_path / "root"), old, steps


def kill_at_every_step(
    board: Board, folder: Path, verb: str, request: Struct, data: bytes, allowed: set[str], stride: int = 1
) -> int:
    """Kill a verb before its first change of the disk and after each; it must be whole, and succeed when it runs again."""
    kills = 0
    while True:
        number, when = (kills * stride, "after") if kills else (1, "before")
        copy = board.copy(folder / f"{verb}-{kills}")
        killed = copy.ask_and_die(number, when, verb, request, data)
        copy.assert_whole(allowed)
        copy.ok(verb, request, data)
        copy.assert_whole(allowed)
        shutil.rmtree(copy.root)
        if not killed:
            return kills
        kills += 1


def test_receive(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, steps = updated
    assert kill_at_every_step(board, tmp_path, "receive", steps.send, steps.data, {old}, stride=2) >= 5


def test_runtime(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, _, steps = updated
    board.ok("receive", steps.send, steps.data)
    shutil.rmtree(board.root / "runtimes")
    kills = 0
    for number in (1, 3, 8, 14, 16, 18, 20):
        one = board.copy(tmp_path / f"runtime-{number}")
        kills += one.ask_and_die(number, "before", "runtime", steps.provide)
        assert not [path for path in (one.root / "runtimes").glob("[!.]*") if not (path / "runtime.json").exists()]
        one.ok("runtime", steps.provide)
        assert len(one.ask("facts")["runtimes"]) == 1
        assert not list((one.root / "runtimes").glob(".[!g]*")), "what was half made is still there"
    assert kills >= 5


def test_install(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, steps = updated
    board.ok("receive", steps.send, steps.data)
    assert kill_at_every_step(board, tmp_path, "install", steps.install, b"", {old}, stride=3) >= 6


def test_activate(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, steps = updated
    board.ok("receive", steps.send, steps.data)
    board.ok("install", steps.install)
    both = {old, steps.activate.release}
    assert kill_at_every_step(board, tmp_path, "activate", steps.activate, b"", both) >= 13


def test_activate_an_unhealthy_release(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, steps = updated
    board.ok("receive", steps.send, steps.data)
    board.ok("install", steps.install)
    both = {old, steps.activate.release}
    sick = structs.replace(steps.activate, health="false")
    for number in range(1, 40, 2):
        copy = board.copy(tmp_path / f"sick-{number}")
        killed = copy.ask_and_die(number, "after", "activate", sick)
        copy.assert_whole(both)
        reply = copy.ok("activate", structs.replace(sick, expected=copy.active()))
        assert reply["outcome"] == "rolled-back" and copy.active() == old
        if not killed:
            return
    pytest.fail("it never ended")


def test_rollback(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, steps = updated
    board.ok("receive", steps.send, steps.data)
    board.ok("install", steps.install)
    board.ok("activate", steps.activate)
    new = steps.activate.release
    request = RollbackRequest(name="sum", leave=new)
    kill_at_every_step(board, tmp_path, "rollback", request, b"", {old, new})
    board.ok("rollback", request)
    assert board.active() == old


def test_remove(updated: tuple[Board, str, Steps], tmp_path: Path) -> None:
    board, old, _ = updated
    kill_at_every_step(board, tmp_path, "remove", RemoveRequest(name="sum"), b"", {old, ""})


def test_two_controllers_of_one_plan_exactly_one_wins(
    updated: tuple[Board, str, Steps], make_bundle: MakeBundle, plan: Plan
) -> None:
    board, _, steps = updated
    other = plan(board, make_bundle("1.2.0", bias=3.0))
    for one in (steps, other):
        board.ok("receive", one.send, one.data)
        board.ok("install", one.install)
    first = board.ok("activate", steps.activate)
    second = board.ask("activate", other.activate)
    assert first["outcome"] == "activated" and board.active() == steps.activate.release
    assert second["error"]["kind"] == "board" and "changed since" in second["error"]["what"]


def test_a_board_that_is_busy_says_who_works_on_it(updated: tuple[Board, str, Steps]) -> None:
    import fcntl

    board, _, _ = updated
    with (board.root / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        reply = board.ask("receive", ReceiveRequest((BlobPart("sha256:" + "0" * 64, 1),)), b"x", seconds=4)
    assert reply["error"]["kind"] == "board" and "another edgepack" in reply["error"]["what"]


def test_controllers_killed_at_random_leave_old_or_new(
    make_bundle: MakeBundle, board: Target, root: Path, test_home: Path, tmp_path: Path
) -> None:
    old, new = make_bundle("1.0.0"), make_bundle("1.1.0", bias=2.0, padding=4 << 20)
    script = tmp_path / "controller.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom edgepack import catalog, delivery\n"
        "from edgepack.bundle import open_bundle\nfrom edgepack.cli.progress import Plain\n"
        "print('go', flush=True)\n"
        "delivery.push(open_bundle(Path(sys.argv[1])), catalog.find_targets([sys.argv[2]]), allow_unsigned=True,"
        " downgrade=True, progress=Plain())\n"
    )
    push = [sys.executable, script, new.path, board.name]
    (first,) = delivery.push(old, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    assert first.outcome == "activated", first
    start = time.perf_counter()
    subprocess.run(push, check=True, capture_output=True)
    cycle = time.perf_counter() - start - 0.5
    chance = random.Random(11)
    for _ in range(int(os.environ.get("EDGEPACK_KILLS", "6"))):
        delivery.rollback([board], "sum", Plain())
        with subprocess.Popen(push, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as controller:
            assert controller.stdout and controller.stdout.readline() == b"go\n"
            time.sleep(chance.uniform(0, 1.1 * cycle))
            controller.kill()
        (state,) = delivery.status([board], Plain())
        (release,) = state.releases
        assert release.version in ("1.0.0", "1.1.0") and release.verified is True and state.log_intact
    (last,) = delivery.push(new, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    assert last.outcome in ("activated", "unchanged")
