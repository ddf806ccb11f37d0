"""OpenSSH's signatures of files (openssh/openssh-portable PROTOCOL.sshsig) and its public keys, as bytes and values.

Ed25519 alone: what a board without OpenSSH can check, and what every OpenSSH since 8.0 signs. Nothing here computes a
signature; `edgepack.trust` does, with the `cryptography` library, and `edgepack.device.sshsig` checks the same on a board.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Literal

from edgepack.errors import InputError, TrustError

NAMESPACE = "edgepack.release.1"
"""What a signature of a release record is for: one made for another purpose (a git commit, a mail) never counts."""
AGENT_NAMESPACE = "edgepack.agent.1"
"""And one of an agent: who signs models signs no program by that."""
ALGORITHM = "ssh-ed25519"

Hash = Literal["sha256", "sha512"]
_HASHES: tuple[Hash, ...] = ("sha256", "sha512")
_MAGIC = b"SSHSIG"
_VERSION = 1
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_COLUMNS = 70
_LONGEST = 8192
_KEY_BYTES, _SIGNATURE_BYTES = 32, 64
_KEY_LINE = re.compile(r"(?P<kind>[a-z0-9@.-]+)[ \t]+(?P<blob>AAAA[A-Za-z0-9+/]+={0,2})(?:[ \t]+(?P<comment>.*))?")

_ANY_KEY_LINE = re.compile(
    r"(?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]{1,60} AAAA[A-Za-z0-9+/]{12,16000}={0,2}(?: [ -~]{1,200})?"
)


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key. raw: 32 bytes (RFC 8032); comment: whose it is, says who wrote the file; not part of the key."""

    raw: bytes
    comment: str = ""

    @property
    def blob(self) -> bytes:
        """As SSH sends it (RFC 8709 §4)."""
        return _string(ALGORITHM.encode()) + _string(self.raw)

    @property
    def fingerprint(self) -> str:
        """`SHA256:…`, as `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as a line of a `.pub` file."""
        return f"{ALGORITHM} {base64.b64encode(self.blob).decode()} {self.comment}".strip()


@dataclass(frozen=True)
class SshSignature:
    """A signature, not yet checked. signature: 64 bytes (RFC 8032 §5.1.6) over `signed_bytes`."""

    key: PublicKey
    namespace: str
    hash: Hash
    signature: bytes


def signed_bytes(message: bytes, hash: Hash = "sha512", namespace: str = NAMESPACE) -> bytes:
    """What is signed in place of a message."""
    hashed = hashlib.new(hash, message).digest()
    return _MAGIC + b"".join(map(_string, (namespace.encode(), b"", hash.encode(), hashed)))


def encode(signature: SshSignature) -> str:
    """Armored, as `ssh-keygen -Y sign` writes it."""
    parts = (
        signature.key.blob,
        signature.namespace.encode(),
        b"",
        signature.hash.encode(),
        _string(ALGORITHM.encode()) + _string(signature.signature),
    )
    text = base64.b64encode(_MAGIC + struct.pack(">I", _VERSION) + b"".join(map(_string, parts))).decode()
    lines = [text[at : at + _COLUMNS] for at in range(0, len(text), _COLUMNS)]
    return "\n".join((_BEGIN, *lines, _END, ""))


def decode(text: str, where: str, namespace: str = NAMESPACE) -> SshSignature:
    """An armored signature. Raises TrustError naming `where`: garbled, of another algorithm or for another purpose."""
    try:
        rest = _dearmor(text)
        if rest[:10] != _MAGIC + struct.pack(">I", _VERSION):
            raise ValueError("it is no SSHSIG of version 1")
        key, rest = _take(rest[10:])
        purpose, rest = _take(rest)
        _, rest = _take(rest)  # reserved: to be ignored
        hashed, rest = _take(rest)
        signature, rest = _take(rest)
        if rest:
            raise ValueError("something follows it")
        found = SshSignature(
            PublicKey(_typed(key, _KEY_BYTES)), _text(purpose), _hash(hashed), _typed(signature, _SIGNATURE_BYTES)
        )
    except ValueError as error:
        raise TrustError(
            f"{where}: not a signature that can be checked: {error}",
            expected=f"an armored SSHSIG by an {ALGORITHM} key, as edgepack sign makes it",
            advice="sign the bundle again",
        ) from None
    if found.namespace != namespace:
        what = "a release" if namespace == NAMESPACE else "an agent"
        raise TrustError(
            f"{where}: the signature was made for {found.namespace[:80]!r}, not for {what}",
            expected=f"the namespace {namespace}",
            advice="sign the bundle with edgepack sign" if namespace == NAMESPACE else "edgepack agent sign makes one",
        )
    return found


def value_of(answer: bytes) -> bytes:
    """The 64 bytes of a signature as an agent answers it. Raises InputError where it is of another algorithm."""
    try:
        return _typed(answer, _SIGNATURE_BYTES)
    except ValueError as error:
        raise InputError(f"the agent's signature cannot be used: {error}", expected=ALGORITHM) from None


def parse_key(line: str, where: str) -> PublicKey:
    """A line of a `.pub` file. Raises InputError naming `where`: no public key, or one of another algorithm."""
    found = _KEY_LINE.fullmatch(line.strip())
    if not found:
        raise InputError(f"{where}: not an OpenSSH public key", expected=f"{ALGORITHM} AAAA… [comment]")
    if found["kind"] != ALGORITHM:
        raise other_algorithm(where, found["kind"])
    try:
        raw = _typed(base64.b64decode(found["blob"], validate=True), _KEY_BYTES)
    except ValueError as error:
        raise InputError(f"{where}: a broken public key: {error}", expected=f"{ALGORITHM} AAAA… [comment]") from None
    return PublicKey(raw, " ".join((found["comment"] or "").split()))


def public_line(text: str, where: str) -> str:
    """The one line of a `.pub` file, of any algorithm. Raises InputError naming `where`; never repeats a private key."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "PRIVATE KEY" in text:
        raise InputError(
            f"{where}: a private key, which nobody else may have; it was sent nowhere",
            expected="the public key beside it, a .pub file",
            advice=f"name {where}.pub; if there is none, ssh-keygen -y -f {where} prints it",
        )
    if len(lines) != 1 or not _ANY_KEY_LINE.fullmatch(lines[0]):
        raise InputError(
            f"{where}: not one OpenSSH public key",
            expected="one line such as ssh-ed25519 AAAA… [comment]",
            advice="ssh-keygen -t ed25519 makes a pair",
        )
    return lines[0]


def other_algorithm(where: str, kind: str) -> InputError:
    return InputError(
        f"{where}: a key of type {kind[:80]}, which a board without OpenSSH cannot check",
        expected=f"a key of type {ALGORITHM}",
        advice="ssh-keygen -t ed25519 -f KEY makes one",
    )


def _dearmor(text: str) -> bytes:
    lines = text.strip().splitlines() if len(text) <= _LONGEST else []
    if len(lines) < 3 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise ValueError(f"it does not begin with {_BEGIN} and end with {_END}")
    try:
        return base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its base64 is broken ({error})") from None


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> tuple[bytes, bytes]:
    """The first string of `data` (RFC 4251 §5), and what follows."""
    if len(data) < 4 or len(data) - 4 < struct.unpack(">I", data[:4])[0]:
        raise ValueError("it is cut short")
    end = 4 + struct.unpack(">I", data[:4])[0]
    return data[4:end], data[end:]


def _typed(data: bytes, size: int) -> bytes:
    """The value of a key or a signature: an algorithm's name, then `size` bytes."""
    kind, rest = _take(data)
    if kind != ALGORITHM.encode():
        raise ValueError(f"its algorithm is {_text(kind)[:80]!r}")
    value, rest = _take(rest)
    if rest or len(value) != size:
        raise ValueError(f"it has {len(value)} bytes, {size} are right")
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ValueError("it holds what is no text") from None


def _hash(data: bytes) -> Hash:
    for known in _HASHES:
        if data == known.encode():
            return known
    raise ValueError(f"its hash algorithm is {_text(data)[:80]!r}")
