"""A signature of a release record: read strictly, then checked by the board's OpenSSH, or in Python where it has none.

One of an agent is checked in Python alone.

The format is OpenSSH's (openssh/openssh-portable PROTOCOL.sshsig), Ed25519 alone. `edgepack.sshsig` is the host's reader.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
import shutil
import struct
import subprocess
from typing import NamedTuple, Tuple

from . import ed25519
from .faults import Fault

NAMESPACE = "edgepack.release.1"
AGENT_NAMESPACE = "edgepack.agent.1"
_MAGIC = b"SSHSIG\x00\x00\x00\x01"
_KIND = b"ssh-ed25519"
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_LONGEST = 8192
_SECONDS = 30.0
_LINE = re.compile(r"ssh-ed25519[ \t]+(AAAA[A-Za-z0-9+/]+={0,2})(?:[ \t].*)?")
_NO_SUBCOMMAND = re.compile(r"(unknown|illegal|invalid|unrecognized) option|^usage:", re.IGNORECASE | re.MULTILINE)


class Signature(NamedTuple):
    """key: 32 bytes; value: 64 bytes"""

    key: bytes
    hash: str
    value: bytes


def verify(folder: str, message: bytes, armored: str) -> Tuple[str, str]:
    """The fingerprint of the key whose signature over `message` holds, and what checked it: `ssh-keygen` or `edgepack`.

    folder: where a few small files may lie for a moment. Raises Fault where the signature is broken or does not hold.
    """
    found = decode(armored)
    checker = "ssh-keygen"
    holds = _ask_openssh(folder, message, armored, found.key)
    if holds is None:
        checker, holds = "edgepack", ed25519.verify(found.key, signed_bytes(message, found.hash), found.value)
    if not holds:
        raise Fault(
            "trust",
            f"the signature by {fingerprint(found.key)} does not hold",
            expected="a signature over exactly this release record",
            advice="get the bundle again; do not install it as it is",
        )
    return fingerprint(found.key), checker


def verify_agent(message: bytes, armored: str) -> str:
    """The fingerprint of the key whose signature over an agent's record holds. Writes nothing, so it needs no lock."""
    found = decode(armored, AGENT_NAMESPACE)
    if not ed25519.verify(found.key, signed_bytes(message, found.hash, AGENT_NAMESPACE), found.value):
        raise Fault(
            "trust",
            f"the signature by {fingerprint(found.key)} does not hold",
            expected="a signature over exactly this agent's record",
            advice="edgepack agent sign makes one",
        )
    return fingerprint(found.key)


def decode(armored: str, purpose: str = NAMESPACE) -> Signature:
    """Raises Fault for what is garbled, of another algorithm, for another purpose, or not the canonical encoding."""
    try:
        rest = _dearmor(armored)
        if not rest.startswith(_MAGIC):
            raise ValueError("it is no SSHSIG of version 1")
        key, rest = _take(rest[len(_MAGIC) :])
        namespace, rest = _take(rest)
        _, rest = _take(rest)
        hashed, rest = _take(rest)
        signature, rest = _take(rest)
        if rest:
            raise ValueError("something follows it")
        if namespace != purpose.encode():
            raise ValueError(f"it was made for {namespace[:80]!r}, not for {purpose}")
        if hashed not in (b"sha256", b"sha512"):
            raise ValueError(f"its hash algorithm is {hashed[:80]!r}")
        found = Signature(_typed(key, 32), hashed.decode(), _typed(signature, 64))
        if not ed25519.is_canonical(found.value) or not ed25519.is_usable(found.key):
            raise ValueError("its numbers are not those of RFC 8032")
    except ValueError as error:
        raise Fault(
            "trust",
            f"the signature cannot be checked: {error}",
            expected=f"an armored SSHSIG by an ssh-ed25519 key for {purpose}",
            advice="sign the bundle with edgepack sign, an agent with edgepack agent sign",
        ) from None
    return found


def signed_bytes(message: bytes, hash: str, purpose: str = NAMESPACE) -> bytes:
    """What is signed in place of a message."""
    hashed = hashlib.new(hash, message).digest()
    return b"SSHSIG" + b"".join(map(_string, (purpose.encode(), b"", hash.encode(), hashed)))


def parse_key(line: str, where: str) -> bytes:
    """The 32 bytes of a line of a `.pub` file. Raises Fault naming `where`."""
    found = _LINE.fullmatch(line.strip())
    try:
        if found is None:
            raise ValueError("it is no line ssh-ed25519 AAAA…")
        key = _typed(base64.b64decode(found.group(1), validate=True), 32)
        if not ed25519.is_usable(key):
            raise ValueError("it is no point that RFC 8032 allows")
    except ValueError as error:
        raise Fault(
            "trust",
            f"{where}: not a public key that can be trusted: {error}",
            expected="ssh-ed25519 AAAA… [comment]",
            advice=f"correct {where}",
        ) from None
    return key


def fingerprint(key: bytes) -> str:
    """`SHA256:…`, as `ssh-keygen -l` prints it."""
    hashed = hashlib.sha256(_blob(key)).digest()
    return "SHA256:" + base64.b64encode(hashed).decode().rstrip("=")


def _ask_openssh(folder: str, message: bytes, armored: str, key: bytes) -> "bool | None":
    """None where the board has no `ssh-keygen`, or one from before it could verify (8.0)."""
    program = shutil.which("ssh-keygen")
    if program is None:
        return None
    aside = os.path.join(folder, ".verify")
    shutil.rmtree(aside, ignore_errors=True)
    os.makedirs(aside, 0o700)
    try:
        allowed, signature = os.path.join(aside, "allowed"), os.path.join(aside, "signature")
        with open(allowed, "w", encoding="ascii") as file:
            file.write(f'edgepack namespaces="{NAMESPACE}" ssh-ed25519 {base64.b64encode(_blob(key)).decode()}\n')
        with open(signature, "w", encoding="ascii") as file:
            file.write(armored)
        command = [program, "-Y", "verify", "-f", allowed, "-I", "edgepack", "-n", NAMESPACE, "-s", signature]
        done = subprocess.run(command, input=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise Fault(
            "board", f"ssh-keygen did not check a signature within {_SECONDS:.0f} s", advice="run this again"
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    said = done.stderr.decode("utf-8", "replace")
    if done.returncode == 0:
        return True
    return None if _NO_SUBCOMMAND.search(said) else False


def _dearmor(text: str) -> bytes:
    lines = text.strip().splitlines() if len(text) <= _LONGEST else []
    if len(lines) < 3 or lines[0].strip() != _BEGIN or lines[-1].strip() != _END:
        raise ValueError(f"it does not begin with {_BEGIN} and end with {_END}")
    try:
        return base64.b64decode("".join(line.strip() for line in lines[1:-1]), validate=True)
    except binascii.Error as error:
        raise ValueError(f"its base64 is broken ({error})") from None


def _blob(key: bytes) -> bytes:
    return _string(_KIND) + _string(key)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _take(data: bytes) -> Tuple[bytes, bytes]:
    if len(data) < 4 or len(data) - 4 < struct.unpack(">I", data[:4])[0]:
        raise ValueError("it is cut short")
    end = 4 + struct.unpack(">I", data[:4])[0]
    return data[4:end], data[end:]


def _typed(data: bytes, size: int) -> bytes:
    kind, rest = _take(data)
    if kind != _KIND:
        raise ValueError(f"its algorithm is {kind[:80]!r}")
    value, rest = _take(rest)
    if rest or len(value) != size:
        raise ValueError(f"it has {len(value)} bytes, {size} are right")
    return value
