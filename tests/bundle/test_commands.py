"""`edgepack sign`, `verify`, `inspect` and `trust` as a script calls them: documents and exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    environment = {**os.environ, "EDGEPACK_HOME": str(tmp_path / "home")}
    environment.pop("SSH_AUTH_SOCK", None)

    def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgepack", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, start_new_session=True
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "key")


def make_key(path: Path, *options: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", *(options or ("-N", "")), "-f", path], check=True)
    return path


def test_a_bundle_is_signed_and_verified(bundle, run, key, tmp_path):
    other = make_key(tmp_path / "other")
    unsigned = json.loads(run("verify", bundle.path, "--json").stdout)
    assert unsigned["assurance"] == "unsigned"
    run("verify", bundle.path, "--trust-key", f"{key}.pub", code=6)
    run("verify", bundle.path, "--trust-key", f"{key}.pub", "--allow-unsigned")
    signed = json.loads(
        run("sign", bundle.path, "--sign-key", key, "--expires", "90d", "--for", "ring=canary", "--json").stdout
    )
    assert signed["digest"] == bundle.digest
    (one,) = signed["signatures"]
    assert one["record"]["targets"] == ["ring=canary"] and one["record"]["expires"] > one["record"]["issued"]
    verified = json.loads(
        run("verify", bundle.path, "--trust-key", f"{other}.pub", "--trust-key", f"{key}.pub", "--json").stdout
    )
    assert (verified["assurance"], verified["key"]) == ("signed", one["key"])
    refused = run("verify", bundle.path, "--trust-key", f"{other}.pub", code=6)
    assert one["key"] in refused.stderr and "edgepack trust add" in refused.stderr
    assert one["key"] in run("verify", bundle.path).stdout, "without keys it says who signed"
    assert json.loads(run("inspect", bundle.path, "--json").stdout)["signatures"][0]["key"] == one["key"]
    assert one["key"] in run("inspect", bundle.path).stdout
    run("sign", bundle.path, "--sign-key", other, "--add")
    assert len(json.loads(run("inspect", bundle.path, "--json").stdout)["signatures"]) == 2


def test_keys_that_are_trusted_here_count_without_being_named(bundle, run, key):
    run("sign", bundle.path, "--sign-key", key)
    run("trust", "add", f"{key}.pub")
    (trusted,) = json.loads(run("trust", "list", "--json").stdout)["keys"]
    fingerprint = trusted["fingerprint"]
    assert json.loads(run("verify", bundle.path, "--json").stdout)["key"] == fingerprint
    run("trust", "remove", fingerprint)
    assert json.loads(run("verify", bundle.path, "--json").stdout)["assurance"] == "digests-only"
    run("trust", "add", f"{key}.pub")
    run("trust", "revoke", f"{key}.pub")
    assert "revoked" in run("verify", bundle.path, code=6).stderr
    assert "revoked" in run("verify", bundle.path, "--trust-key", f"{key}.pub", "--allow-unsigned", code=6).stderr
    assert run("trust", "add", f"{key}.pub", code=3).stderr.count("revoked") >= 1


def test_what_cannot_be_signed_with_is_named(bundle, run, tmp_path):
    before = bundle.path.read_bytes()
    encrypted = make_key(tmp_path / "encrypted", "-N", "secret")
    assert "ssh-add" in run("sign", bundle.path, "--sign-key", encrypted, code=3).stderr
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", rsa], check=True)
    assert "ssh-ed25519" in run("sign", bundle.path, "--sign-key", rsa, code=3).stderr
    assert "ssh-agent" in run("sign", bundle.path, "--sign-key", f"{encrypted}.pub", code=6).stderr
    assert "cannot be read" in run("sign", bundle.path, "--sign-key", tmp_path / "none", code=3).stderr
    run("sign", bundle.path, "--sign-key", encrypted, "--expires", "soon", code=2)
    run("sign", bundle.path, code=2)
    run("verify", bundle.path, "--trust-key", f"{rsa}.pub", code=3)
    assert bundle.path.read_bytes() == before


def test_what_a_signature_allows_needs_one(run, tmp_path):
    done = run("build", "model.onnx", "-p", "rpi4", "-o", tmp_path, "--expires", "90d", code=2)
    assert "--sign-key" in done.stderr


def test_a_private_key_goes_nowhere_and_is_not_shown(run, key, tmp_path):
    """Before any board is looked for: there is none here."""
    refused = run("target", "authorize", "nobody", key, code=3).stderr
    assert "a private key" in refused and f"{key}.pub" in refused
    assert not any(line in refused for line in key.read_text().splitlines()[1:])
    (tmp_path / "two.pub").write_text(Path(f"{key}.pub").read_text() * 2)
    for other in (tmp_path / "two.pub", "/etc/hostname"):
        assert "not one OpenSSH public key" in run("target", "authorize", "nobody", other, code=3).stderr
    assert "unknown target 'nobody'" in run("target", "authorize", "nobody", f"{key}.pub", code=2).stderr


def test_an_agent_is_signed_for_hosts_that_only_deliver(run, key, tmp_path):
    shown = json.loads(run("agent", "show", "--json").stdout)
    assert (shown["key"], shown["issued"]) == ("", "") and shown["size"] > 50_000
    assert "by nobody" in run("agent", "show").stdout
    signed = json.loads(run("agent", "sign", "--sign-key", key, "-o", tmp_path / "agent.json", "--json").stdout)
    assert signed["digest"] == shown["digest"]
    assert json.loads(run("agent", "show", "--json").stdout)["key"] == "", "it is for other hosts"
    assert json.loads(run("agent", "add", tmp_path / "agent.json", "--json").stdout)["key"] == signed["key"]
    assert json.loads(run("agent", "show", "--json").stdout)["key"] == signed["key"]
    assert signed["key"] in run("agent", "sign", "--sign-key", key).stdout
    document = json.loads((tmp_path / "agent.json").read_text())
    for name, bent, code in (
        ("signature", document["signature"].replace("A", "B", 1), 6),
        ("record", document["record"].replace("T", "t"), 6),
        ("record", document["record"].replace(shown["digest"], "sha256:" + "0" * 64), 3),
        ("record", "{}", 3),
    ):
        (tmp_path / "bent.json").write_text(json.dumps({**document, name: bent}))
        run("agent", "add", tmp_path / "bent.json", code=code)
    run("agent", "add", tmp_path / "missing.json", code=3)
    run("agent", "sign", "--sign-key", tmp_path / "missing", code=3)
