"""Agents that a restricted key brings, as sshd would let it ask: the real agent at the door, asked by the real command lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack import digest, signing, sshsig, trust
from edgepack.device import door, store
from edgepack.remote import AgentRecord, Endorsement, agent_pyz, commands

PYTHON = getattr(sys, "_base_executable", sys.executable)
OLD = "2026-01-01T00:00:00Z"
NEW = "2026-02-01T00:00:00Z"


def other_agent(text: bytes) -> bytes:
    """This agent with a comment in its zip: another digest, and it runs."""
    data = agent_pyz()
    assert data[-2:] == b"\0\0"
    return data[:-2] + len(text).to_bytes(2, "little") + text


class Board:
    """A root with an agent at its door, and what a restricted key can ask there."""

    def __init__(self, folder: Path, trusted: Path) -> None:
        self.root = folder / "root"
        own = digest.hex_of(digest.of_bytes(agent_pyz()))
        self.standing = self.root / "agent" / own / "agent.pyz"
        self.standing.parent.mkdir(parents=True)
        self.standing.write_bytes(agent_pyz())
        (self.root / "trust").mkdir()
        (self.root / "trust/release.pub").write_bytes(trusted.with_suffix(".pub").read_bytes())
        self.allow(True, own)

    def allow(self, signed_agents: bool, *agents: str) -> None:
        store.write_json(str(self.root / "door.json"), {"agents": list(agents), "signed_agents": signed_agents})

    def ask(self, command: str, data: bytes = b"{}\n") -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [PYTHON, "-I", "-S", self.standing, "serve", self.root],
            input=data,
            capture_output=True,
            env={**os.environ, "SSH_ORIGINAL_COMMAND": command},
        )
        assert b"Traceback" not in done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout or b"{}")

    def facts(self, agent: bytes) -> tuple[int, dict[str, Any]]:
        return self.ask(commands.run_agent(str(self.root), hexadecimal(agent), "facts", 60))

    def bring(self, agent: bytes, endorsement: Endorsement | str) -> tuple[int, str]:
        text = endorsement if isinstance(endorsement, str) else endorsement.argument()
        code, said = self.ask(commands.install_agent(str(self.root), hexadecimal(agent), text), agent)
        return code, said.get("error", {}).get("what", "")


def hexadecimal(agent: bytes) -> str:
    return digest.hex_of(digest.of_bytes(agent))


@pytest.fixture(scope="module")
def key_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return folder.joinpath


@pytest.fixture
def board(tmp_path: Path, key_of: Callable[[str], Path]) -> Board:
    return Board(tmp_path, key_of("ours"))


def endorse(
    agent: bytes, key: Path, issued: str = NEW, purpose: str = sshsig.AGENT_NAMESPACE, **changes: str
) -> Endorsement:
    record = AgentRecord(agent=digest.of_bytes(agent), issued=issued).encode().decode()
    signature = trust.load_signer(key, lambda _: "").sign(record.encode(), purpose)
    return Endorsement(record=changes.get("record", record), signature=changes.get("signature", signature))


def test_one_that_a_trusted_key_signed_comes_in_and_stands_at_the_door(board, key_of):
    agent = other_agent(b"newer")
    assert board.facts(agent)[0] == door.WANTS_SIGNED == commands.WANTS_SIGNED
    assert board.bring(agent, endorse(agent, key_of("ours"))) == (0, "")
    code, said = board.facts(agent)
    assert code == 0 and said["machine"]
    # what the door lets in is asked of the new agent too
    code, said = board.ask(commands.run_agent(str(board.root), hexadecimal(agent), "activate", 60), b'{"health":"id"}')
    assert code == 1 and said["error"]["kind"] == "trust" and "may not run the health command" in said["error"]["what"]
    code, said = board.ask(commands.run_agent(str(board.root), hexadecimal(agent), "authorize", 60))
    assert code == 1 and "agent alone" in said["error"]["what"]


def test_openssh_agrees_with_the_signature(board, key_of, tmp_path):
    agent = other_agent(b"x")
    one = endorse(agent, key_of("ours"))
    (tmp_path / "signature").write_text(one.signature)
    kind, blob, *_ = key_of("ours").with_suffix(".pub").read_text().split()
    (tmp_path / "allowed").write_text(f"release {kind} {blob}\n")
    command = ["ssh-keygen", "-Y", "verify", "-f", "allowed", "-I", "release", "-n", "edgepack.agent.1"]
    done = subprocess.run([*command, "-s", "signature"], input=one.record.encode(), cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("nothing", "lets no unknown agent in"),
        ("garbled", "no JSON in base64"),
        ("stranger", "which this board does not trust"),
        ("release", "not for edgepack.agent.1"),
        ("another agent", "it is of sha256:"),
        ("bent record", "does not hold"),
        ("unknown field", "its fields are others"),
        ("damaged", "damaged or cut off"),
    ],
)
def test_anything_else_stays_out(why, expected, board, key_of):
    agent, ours = other_agent(b"evil"), key_of("ours")
    good = endorse(agent, ours)
    bent = {
        "nothing": "",
        "garbled": "!!!",
        "stranger": endorse(agent, key_of("theirs")),
        "release": endorse(agent, ours, purpose=sshsig.NAMESPACE),
        "another agent": endorse(other_agent(b"good"), ours),
        "bent record": Endorsement(record=good.record.replace("2026", "2027"), signature=good.signature),
        "unknown field": Endorsement(record=good.record.replace("{", '{"a":1,'), signature=good.signature),
        "damaged": good,
    }[why]
    data = agent[:-1] if why == "damaged" else agent
    text = bent if isinstance(bent, str) else bent.argument()
    code, said = board.ask(commands.install_agent(str(board.root), hexadecimal(agent), text), data)
    assert code == 1 and expected in said["error"]["what"], said
    assert not (board.root / "agent" / hexadecimal(agent)).exists()


def test_without_the_rule_a_signature_opens_nothing(board, key_of):
    agent = other_agent(b"newer")
    board.allow(False, hexadecimal(agent_pyz()))
    assert "lets no unknown agent in" in board.facts(agent)[1]["error"]["what"]
    assert "lets no unknown agent in" in board.bring(agent, endorse(agent, key_of("ours")))[1]


def test_an_older_one_does_not_come_back_but_hosts_may_take_turns(board, key_of):
    newer, older, ours = other_agent(b"newer"), other_agent(b"older"), key_of("ours")
    assert board.bring(older, endorse(older, ours, OLD))[0] == 0
    assert board.bring(newer, endorse(newer, ours, NEW))[0] == 0
    assert board.facts(older)[0] == 0, "what was let in may go on"
    unseen = other_agent(b"unseen")
    code, said = board.bring(unseen, endorse(unseen, ours, OLD))
    assert code == 1 and "before one that this board already knows" in said


def test_a_key_that_is_revoked_takes_its_agents_along(board, key_of):
    agent = other_agent(b"newer")
    assert board.bring(agent, endorse(agent, key_of("ours")))[0] == 0
    (revoked,) = trust.read_keys(key_of("ours").with_suffix(".pub"))
    (board.root / "trust/revoked").write_text(revoked.fingerprint + "\n")
    code, said = board.facts(agent)
    assert code == 1 and "which was revoked" in said["error"]["what"]


def test_an_arrival_that_was_cut_off_begins_again(board, key_of):
    agent = other_agent(b"newer")
    (board.root / "agent" / hexadecimal(agent)).mkdir()
    (board.root / "agent" / hexadecimal(agent) / "agent.pyz").write_bytes(agent)
    assert board.facts(agent)[0] == door.WANTS_SIGNED, "bytes that nobody vouched for do not count"
    assert board.bring(agent, endorse(agent, key_of("ours")))[0] == 0
    assert board.facts(agent)[0] == 0


def test_the_host_s_and_the_board_s_words_are_one(key_of):
    made = signing.endorse_agent(trust.load_signer(key_of("ours"), lambda _: ""))
    found, fingerprint = signing.check_endorsement(made.encode(), "f")
    (key,) = trust.read_keys(key_of("ours").with_suffix(".pub"))
    assert (found, fingerprint) == (made, key.fingerprint)
