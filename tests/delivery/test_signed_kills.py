"""The agent is killed while it learns whom to trust, and while it installs and activates a signed release."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Struct, structs

from edgepack import actions, digest, signing, trust
from edgepack.actions import Content, FromLock, Wish
from edgepack.bundle import Bundle
from edgepack.device import facts, journal
from edgepack.lock import RuntimeLock
from edgepack.protocol import ActivateRequest, Facts, InstallRequest, ReceiveRequest, RuntimeRequest, TrustRequest
from edgepack.remote.pyz import agent_pyz
from edgepack.signing import Terms

pytestmark = pytest.mark.frameworks
MakeBundle = Callable[..., Bundle]

# Runs the agent and kills it after its N-th change of the disk.
KILLER = """
import os, runpy, signal, sys
number, seen = int(sys.argv[1]), 0
sys.argv = sys.argv[2:]
def deadly(real):
    def call(*args, **options):
        global seen
        seen += 1
        mine = seen
        try:
            return real(*args, **options)
        finally:
            if mine == number:
                os.kill(os.getpid(), signal.SIGKILL)
    return call
for name in ("replace", "rename", "link", "symlink", "unlink", "rmdir", "fsync", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Agent:
    """A board's root, without SSH."""

    root: Path
    tools: Path

    def ask(self, verb: str, request: Struct | None = None, data: bytes = b"", kill: int = 0) -> dict[str, Any] | None:
        """The reply, or None where it was killed."""
        killer = [self.tools / "killer.py", str(kill)] if kill else []
        command = [sys.executable, "-I", *killer, self.tools / "agent.pyz", verb, self.root, "60"]
        line = (msgspec.json.encode(request) if request else b"{}") + b"\n"
        done = subprocess.run(command, input=line + data, capture_output=True)
        assert done.returncode in (0, 1, -signal.SIGKILL), done.stderr.decode()
        return None if done.returncode < 0 else json.loads(done.stdout)

    def copy(self, folder: Path) -> Agent:
        shutil.copytree(self.root, folder, symlinks=True)
        return Agent(folder, self.tools)


@dataclass(frozen=True)
class Prepared:
    """A board that has received a signed release, and what is to be asked of it next."""

    agent: Agent
    enrol: TrustRequest
    install: InstallRequest
    activate: ActivateRequest


@pytest.fixture(scope="module")
def prepared(
    make_bundle: MakeBundle, lock: RuntimeLock, test_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Prepared:
    tools = tmp_path_factory.mktemp("signed-agent")
    (tools / "agent.pyz").write_bytes(agent_pyz())
    (tools / "killer.py").write_text(KILLER)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tools / "key"], check=True)
    signer = trust.load_signer(tools / "key", lambda prompt: "")
    bundle = signing.sign(make_bundle(), signer, Terms(lasts=3600))
    agent = Agent(tools / "root", tools)
    content = Content(
        digest=bundle.digest,
        manifest=bundle.manifest,
        manifest_digest=digest.of_bytes(bundle.manifest_bytes),
        manifest_size=len(bundle.manifest_bytes),
        offers=signing.offers(bundle),
    )
    said = msgspec.convert(agent.ask("facts"), Facts)
    wish = Wish(target="t", profiles=(bundle.manifest.profile.name,), machine=said.machine, allow_unsigned=True)
    plan = actions.plan_push(content, wish, said, bundle.manifest.variants[0], {lock.runtime: FromLock(lock)})
    wheel = lock.wheels[0]
    kept = (test_home / "wheels/sha256" / digest.hex_of(wheel.digest) / wheel.filename).read_bytes()
    sources = {wheel.digest: kept, content.manifest_digest: bundle.manifest_bytes}
    requests: dict[type[Struct], Any] = {}
    for action in plan:
        if isinstance(action, actions.Send):
            data = b"".join(sources.get(p.digest) or bundle.open_blob(p.digest).read() for p in action.parts)
            assert "error" not in (agent.ask("receive", ReceiveRequest(action.parts), data) or {"error": 1})
        else:
            requests[type(action.request)] = action.request
    assert "error" not in (agent.ask("runtime", requests[RuntimeRequest]) or {"error": 1})
    enrol = TrustRequest(device="t", keys=(signer.key.line,), revoke=("SHA256:" + "x" * 43,))
    return Prepared(agent, enrol, requests[InstallRequest], requests[ActivateRequest])


def kill_everywhere(
    agent: Agent, folder: Path, verb: str, request: Struct, check: Callable[[Agent], None], stride: int
) -> int:
    """Kill a verb after its changes of the disk, one after the other; after each it is run again, and succeeds."""
    for kills in range(100):
        copy = agent.copy(folder / f"{verb}-{kills}")
        killed = copy.ask(verb, request, kill=1 + kills * stride) is None
        check(copy)
        reply = copy.ask(verb, request)
        assert reply is not None and "error" not in reply, reply
        check(copy)
        assert not (copy.root / ".verify").exists()
        if not killed:
            return kills
    raise AssertionError("it never ended")


def whole(agent: Agent) -> None:
    """Nothing that is active lacks its signature or a byte, and the log holds."""
    for release in facts.releases_of(str(agent.root), "", True):
        assert release["assurance"] == "signed" and release["key"], release
        assert release["verified"] is True, release
    assert journal.check(str(agent.root)).intact


def test_a_kill_leaves_the_old_or_the_new(prepared: Prepared, tmp_path: Path) -> None:
    def old_or_new(agent: Agent) -> None:
        said = msgspec.convert(agent.ask("facts"), Facts).trust
        assert len(said.keys) in (0, 1) and len(said.revoked) in (0, 1)
        assert journal.check(str(agent.root)).intact

    assert kill_everywhere(prepared.agent, tmp_path, "trust", prepared.enrol, old_or_new, 2) >= 5
    agent = prepared.agent.copy(tmp_path / "root")
    assert agent.ask("trust", prepared.enrol)
    assert kill_everywhere(agent, tmp_path, "install", prepared.install, whole, 4) >= 4
    refused = agent.ask("install", structs.replace(prepared.install, signature="", record=""))
    assert refused and refused["error"]["kind"] == "trust" and "not signed" in refused["error"]["what"]
    reply = agent.ask("install", prepared.install)
    assert reply and reply["assurance"] == "signed", reply
    assert kill_everywhere(agent, tmp_path, "activate", prepared.activate, whole, 3) >= 4
    assert (agent.root / "clock.json").exists()


def test_what_was_installed_before_the_board_was_told_is_not_activated_unsigned(
    prepared: Prepared, tmp_path: Path
) -> None:
    agent = prepared.agent.copy(tmp_path / "root")
    bare = structs.replace(prepared.install, signature="", record="")
    reply = agent.ask("install", bare)
    assert reply and reply["assurance"] == "unsigned", reply
    assert agent.ask("trust", prepared.enrol)
    refused = agent.ask("activate", prepared.activate)
    assert refused and refused["error"]["kind"] == "trust" and "not signed" in refused["error"]["what"]
    assert not (agent.root / "current/sum").exists()
