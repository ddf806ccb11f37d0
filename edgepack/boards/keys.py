"""The key pairs of a board: made by edgepack, for that board alone, never the user's own."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path


def make_pair(path: Path) -> None:
    """Write an Ed25519 private key in OpenSSH's format to `path` (0600) and its public half to `path`.pub, unless there."""
    if path.exists() and public_of(path).exists():
        return
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    for target, data in ((path, secret), (public_of(path), public + b"\n")):
        aside = target.with_name(target.name + ".new")
        aside.touch(mode=0o600)
        aside.write_bytes(data)
        aside.replace(target)


def public_of(path: Path) -> Path:
    return path.with_name(path.name + ".pub")


def public_blob(path: Path) -> bytes:
    """The key in SSH's wire format, out of the public half of the pair at `path`."""
    return base64.b64decode(public_of(path).read_text().split()[1])


def fingerprint(path: Path) -> str:
    """`SHA256:…` as ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public_blob(path)).digest()).decode().rstrip("=")
