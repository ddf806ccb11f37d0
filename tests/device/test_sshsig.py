"""The board's check of a signature, with its OpenSSH and without, beside the host's."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack import sshsig as host
from edgepack import trust
from edgepack.device import sshsig
from edgepack.device.faults import Fault
from edgepack.errors import EdgepackError

MESSAGE = b'{"schema":"edgepack.release-record/1"}'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


@pytest.fixture(params=["ssh-keygen", "edgepack"])
def checker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A board with OpenSSH, and one without."""
    if request.param == "edgepack":
        monkeypatch.setattr(shutil, "which", lambda name: None)
    return str(request.param)


def signed(key: Path, message: bytes = MESSAGE, namespace: str = sshsig.NAMESPACE, hash: str = "sha512") -> str:
    file = key.with_name("message")
    file.write_bytes(message)
    file.with_name("message.sig").unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-Y", "sign", "-f", key, "-n", namespace, "-O", f"hashalg={hash}", file]
    subprocess.run(command, check=True, capture_output=True)
    return file.with_name("message.sig").read_text()


@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_what_openssh_signs_holds(key: Path, checker: str, hash: str, tmp_path: Path) -> None:
    (public,) = trust.read_keys(key.with_name("key.pub"))
    armored = signed(key, hash=hash)
    assert sshsig.verify(str(tmp_path), MESSAGE, armored) == (public.fingerprint, checker)
    with pytest.raises(Fault, match="does not hold"):
        sshsig.verify(str(tmp_path), MESSAGE + b"\n", armored)
    assert not (tmp_path / ".verify").exists()


def test_what_the_host_signs_holds(key: Path, checker: str, tmp_path: Path) -> None:
    signer = trust.load_signer(key, lambda prompt: "")
    assert sshsig.verify(str(tmp_path), MESSAGE, signer.sign(MESSAGE)) == (signer.key.fingerprint, checker)


def test_what_was_not_signed_by_that_key_for_a_release_is_refused(key: Path, checker: str, tmp_path: Path) -> None:
    refused = [signed(key, namespace="git"), "", "garbage", signed(key).replace("U1NIU0lH", "U1NIU0lI")]
    for kind in ("rsa", "ecdsa"):
        other = tmp_path / kind
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", other], check=True)
        refused.append(signed(other))
    for armored in refused:
        with pytest.raises(Fault) as caught:
            sshsig.verify(str(tmp_path), MESSAGE, armored)
        assert caught.value.kind == "trust"


def test_an_openssh_that_is_too_old_is_not_asked(key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What OpenSSH 7 says of `-Y`."""
    old = tmp_path / "bin/ssh-keygen"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'unknown option -- Y\nusage: ssh-keygen [-q] [-b bits]' >&2\nexit 1\n")
    old.chmod(0o755)
    armored = signed(key)
    monkeypatch.setenv("PATH", f"{old.parent}:/bin:/usr/bin")
    assert sshsig.verify(str(tmp_path), MESSAGE, armored)[1] == "edgepack"
    with pytest.raises(Fault, match="does not hold"):
        sshsig.verify(str(tmp_path), MESSAGE + b"\n", armored)


@given(st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_garbled_signature_is_read_as_the_host_reads_it(key: Path, data: st.DataObject) -> None:
    armored = signed(key) if not key.with_name("message.sig").exists() else key.with_name("message.sig").read_text()
    raw = bytearray(base64.b64decode("".join(armored.splitlines()[1:-1])))
    at, noise = data.draw(st.integers(0, len(raw))), data.draw(st.binary(max_size=4))
    raw[at : at + data.draw(st.integers(0, 4))] = noise
    text = f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(raw).decode()}\n-----END SSH SIGNATURE-----\n"
    try:
        theirs: host.SshSignature | None = host.decode(text, "x")
    except EdgepackError:
        theirs = None
    try:
        ours: sshsig.Signature | None = sshsig.decode(text)
    except Fault:
        ours = None
    if ours is not None:
        assert theirs is not None and ours == (theirs.key.raw, theirs.hash, theirs.signature)
    assert sshsig.signed_bytes(MESSAGE, "sha512") == host.signed_bytes(MESSAGE)


def test_keys_are_read_as_the_host_reads_them(key: Path) -> None:
    line = key.with_name("key.pub").read_text()
    (public,) = trust.read_keys(key.with_name("key.pub"))
    assert sshsig.parse_key(line, "x") == public.raw and sshsig.fingerprint(public.raw) == public.fingerprint
    small = host.PublicKey(bytes([1, *bytes(31)])).line
    for wrong in (
        "",
        "ssh-ed25519",
        "ssh-rsa AAAA",
        "ssh-ed25519 AAAA",
        f"{line.split()[0]} {line.split()[1][:-4]}",
        small,
    ):
        with pytest.raises(Fault, match="not a public key"):
            sshsig.parse_key(wrong, "x")
