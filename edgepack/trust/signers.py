"""What signs: an OpenSSH private key in a file, or one that ssh-agent holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from edgepack import sshsig
from edgepack.errors import InputError, TrustError
from edgepack.sshsig import PublicKey, SshSignature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from paramiko.agent import AgentKey

Ask = Callable[[str], str]
"""Asks a person for a secret. Raises InputError where nobody is there."""
_MOST = 1 << 16


class Signer(Protocol):
    @property
    def key(self) -> PublicKey: ...

    def sign(self, message: bytes, namespace: str = sshsig.NAMESPACE) -> str:
        """An armored SSHSIG for one purpose.

        Ed25519 is deterministic: the same key and message give the same bytes (RFC 8032 §5.1.6).
        """
        ...

    def sign_exactly(self, message: bytes) -> bytes:
        """64 bytes of Ed25519 over `message` itself, for formats with a prefix of their own against confusion, as DSSE has."""
        ...


def load_signer(path: Path, ask: Ask) -> Signer:
    """The signer of a private key file, or of a `.pub` file whose private half ssh-agent holds.

    An encrypted key is taken from the agent if it holds it, else its passphrase is asked.
    Raises InputError naming `path`: missing, no OpenSSH key, of another algorithm, or a wrong passphrase; TrustError where
    the agent does not hold the key.
    """
    data = _read(path)
    if path.suffix == ".pub" or data.startswith(b"ssh-"):
        key = sshsig.parse_key(data.decode("utf-8", "replace"), str(path))
        held = _in_agent(key)
        if held is None:
            raise TrustError(
                f"{path}: no ssh-agent here holds the private half of {key.fingerprint}",
                expected="the key in ssh-add -l",
                advice=f"ssh-add {path.with_suffix('')}, or name the private key itself",
            )
        return held
    return _of_file(path, data, ask)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}",
            expected="an OpenSSH private key, or a .pub file whose private half ssh-agent holds",
            advice="ssh-keygen -t ed25519 -f KEY makes one",
        ) from None


def _of_file(path: Path, data: bytes, ask: Ask) -> Signer:
    try:
        return _decrypt(path, data, None)
    except TypeError:  # what `cryptography` raises for an encrypted key without a passphrase
        pass
    beside = path.with_name(path.name + ".pub")
    if beside.is_file() and (held := _in_agent(sshsig.parse_key(beside.read_text(), str(beside)))):
        return held
    return _decrypt(path, data, ask(f"Passphrase of {path}: ").encode())


def _decrypt(path: Path, data: bytes, passphrase: bytes | None) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_ssh_private_key

    try:
        private = load_ssh_private_key(data, passphrase)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(
            f"{path}: not an OpenSSH private key, or the passphrase is wrong: {error}",
            expected="a file that begins with -----BEGIN OPENSSH PRIVATE KEY-----",
            advice="ssh-keygen -t ed25519 -f KEY makes one; ssh-keygen -p -f KEY rewrites an old one",
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise sshsig.other_algorithm(str(path), type(private).__name__.removesuffix("PrivateKey").lstrip("_"))
    return _FileSigner(private, PublicKey(private.public_key().public_bytes_raw(), path.name))


@dataclass(frozen=True)
class _FileSigner:
    private: Ed25519PrivateKey
    key: PublicKey

    def sign(self, message: bytes, namespace: str = sshsig.NAMESPACE) -> str:
        signature = self.sign_exactly(sshsig.signed_bytes(message, "sha512", namespace))
        return sshsig.encode(SshSignature(self.key, namespace, "sha512", signature))

    def sign_exactly(self, message: bytes) -> bytes:
        return self.private.sign(message)


@dataclass(frozen=True)
class _AgentSigner:
    key: PublicKey

    def sign(self, message: bytes, namespace: str = sshsig.NAMESPACE) -> str:
        signature = self.sign_exactly(sshsig.signed_bytes(message, "sha512", namespace))
        return sshsig.encode(SshSignature(self.key, namespace, "sha512", signature))

    def sign_exactly(self, message: bytes) -> bytes:
        import paramiko

        try:
            with _held(self.key) as held:
                answer = held.sign_ssh_data(message) if held else b""
        except (paramiko.SSHException, OSError) as error:
            raise TrustError(
                f"ssh-agent did not sign with {self.key.fingerprint}: {error}",
                expected="its consent",
                advice="confirm it where ssh-agent asks, or unlock the agent (ssh-add -X)",
            ) from None
        return sshsig.value_of(cast(bytes, answer))


def _in_agent(key: PublicKey) -> _AgentSigner | None:
    with _held(key) as held:
        return _AgentSigner(key) if held else None


@contextmanager
def _held(key: PublicKey) -> Iterator[AgentKey | None]:
    """The agent's half of a key while it is asked; None where there is no agent, or it does not hold that key."""
    import paramiko

    try:
        agent = paramiko.Agent()
    except (paramiko.SSHException, OSError):
        yield None
        return
    with closing(agent):
        yield next((one for one in agent.get_keys() if one.asbytes() == key.blob), None)
