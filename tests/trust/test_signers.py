"""Signatures that OpenSSH accepts, by keys that OpenSSH made; and OpenSSH's own, accepted here."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack import sshsig, trust
from edgepack.errors import EdgepackError, InputError, TrustError

MakeKey = Callable[..., Path]
MESSAGE = b'{"schema":"edgepack.release-record/1"}'


def nobody(prompt: str) -> str:
    raise AssertionError(f"asked for {prompt}")


def openssh_verifies(key: Path, message: bytes, armored: str, folder: Path, namespace: str = sshsig.NAMESPACE) -> bool:
    (folder / "allowed").write_text(f"me {key.with_name(key.name + '.pub').read_text()}")
    (folder / "armored").write_text(armored)
    command = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        folder / "allowed",
        "-I",
        "me",
        "-n",
        namespace,
        "-s",
        folder / "armored",
    ]
    return subprocess.run(command, input=message, capture_output=True).returncode == 0


def openssh_signs(
    key: Path, message: bytes, folder: Path, namespace: str = sshsig.NAMESPACE, hash: str = "sha512"
) -> str:
    (folder / "message").write_bytes(message)
    (folder / "message.sig").unlink(missing_ok=True)
    command = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-f",
        key,
        "-n",
        namespace,
        "-O",
        f"hashalg={hash}",
        folder / "message",
    ]
    subprocess.run(command, check=True, capture_output=True)
    return (folder / "message.sig").read_text()


def test_openssh_verifies_what_is_signed_here(make_key: MakeKey, own_home: Path, tmp_path: Path) -> None:
    key = make_key()
    armored = trust.load_signer(key, nobody).sign(MESSAGE)
    assert openssh_verifies(key, MESSAGE, armored, tmp_path)
    assert not openssh_verifies(key, MESSAGE + b" ", armored, tmp_path)
    assert not openssh_verifies(key, MESSAGE, armored, tmp_path, namespace="file")


def test_it_is_byte_for_byte_what_openssh_signs(make_key: MakeKey, own_home: Path, tmp_path: Path) -> None:
    key = make_key()
    assert trust.load_signer(key, nobody).sign(MESSAGE) == openssh_signs(key, MESSAGE, tmp_path)


@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_what_openssh_signs_holds_here(hash: str, make_key: MakeKey, tmp_path: Path) -> None:
    key = make_key()
    armored = openssh_signs(key, MESSAGE, tmp_path, hash=hash)
    (public,) = trust.read_keys(key.with_name("key.pub"))
    assert trust.check_signature(MESSAGE, armored, "x") == sshsig.PublicKey(public.raw)
    with pytest.raises(TrustError, match="does not hold"):
        trust.check_signature(MESSAGE + b" ", armored, "x")


def test_a_signature_for_another_purpose_is_refused(make_key: MakeKey, tmp_path: Path) -> None:
    armored = openssh_signs(make_key(), MESSAGE, tmp_path, namespace="git")
    with pytest.raises(TrustError, match="'git'"):
        trust.check_signature(MESSAGE, armored, "x")


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_a_key_of_another_algorithm_is_refused_everywhere(
    kind: str, make_key: MakeKey, own_home: Path, tmp_path: Path
) -> None:
    key = make_key(kind=kind)
    with pytest.raises(InputError, match="of type") as caught:
        trust.load_signer(key, nobody)
    assert str(key) in caught.value.what and "ed25519" in caught.value.advice
    with pytest.raises(InputError, match=kind):
        trust.load_signer(key.with_name("key.pub"), nobody)
    with pytest.raises(InputError, match=kind):
        trust.read_keys(key.with_name("key.pub"))
    with pytest.raises(TrustError, match=kind):
        trust.check_signature(MESSAGE, openssh_signs(key, MESSAGE, tmp_path), "x")


def test_a_passphrase_is_asked_for(make_key: MakeKey, own_home: Path, tmp_path: Path) -> None:
    key = make_key(passphrase="sesam öffne dich")
    assert openssh_verifies(key, MESSAGE, trust.load_signer(key, lambda _: "sesam öffne dich").sign(MESSAGE), tmp_path)
    with pytest.raises(InputError, match="passphrase is wrong"):
        trust.load_signer(key, lambda _: "sesam")


def test_the_agent_signs_for_a_public_key_and_for_an_encrypted_one(
    make_key: MakeKey, agent: Callable[[Path], None], tmp_path: Path
) -> None:
    key = make_key()
    agent(key)
    plain = trust.load_signer(key, nobody).sign(MESSAGE)
    assert trust.load_signer(key.with_name("key.pub"), nobody).sign(MESSAGE) == plain
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True, capture_output=True)
    assert trust.load_signer(key, nobody).sign(MESSAGE) == plain
    with pytest.raises(TrustError, match="no ssh-agent here holds"):
        trust.load_signer(make_key("other").with_name("other.pub"), nobody)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"]
)
def test_what_is_no_private_key_is_named(text: str, own_home: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(InputError, match=str(tmp_path / "key")):
        trust.load_signer(tmp_path / "key", nobody)
    with pytest.raises(InputError, match="cannot be read"):
        trust.load_signer(tmp_path / "missing", nobody)


def test_every_bit_of_a_signature_counts(make_key: MakeKey, own_home: Path) -> None:
    import base64

    armored = trust.load_signer(make_key(), nobody).sign(MESSAGE)
    data = base64.b64decode("".join(armored.splitlines()[1:-1]))
    reserved = data.index(b"edgepack.release.1") + len(b"edgepack.release.1")
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        text = f"-----BEGIN SSH SIGNATURE-----\n{base64.b64encode(changed).decode()}\n-----END SSH SIGNATURE-----\n"
        with pytest.raises(EdgepackError):
            trust.check_signature(MESSAGE, text, "x")
    assert data[reserved : reserved + 4] == bytes(4)


def test_a_signature_cut_anywhere_is_refused(make_key: MakeKey, own_home: Path) -> None:
    armored = trust.load_signer(make_key(), nobody).sign(MESSAGE)
    for end in range(len(armored) - 1):
        with pytest.raises(TrustError):
            trust.check_signature(MESSAGE, armored[:end], "x")
