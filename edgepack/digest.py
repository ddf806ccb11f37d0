"""Content addresses: `sha256:<hex>` of bytes, files and values, and the one canonical JSON they are taken of."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NewType

import msgspec

Digest = NewType("Digest", str)

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def of_bytes(data: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def of_file(path: Path) -> Digest:
    """Digest of a file's bytes, read in chunks of 1 MiB."""
    with path.open("rb") as file:
        return Digest("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())


def of_tree(root: Path) -> Digest:
    """Digest of a file, or of a folder as the sorted list of its files' relative names and digests."""
    if root.is_file():
        return of_file(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return of_value([[path.relative_to(root).as_posix(), of_file(path)] for path in files])


def of_value(value: Any) -> Digest:
    """Digest of the canonical JSON of a value that msgspec can encode."""
    return of_bytes(canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8: the same value always gives the same bytes."""
    return msgspec.json.encode(value, order="sorted")


def hex_of(digest: str) -> str:
    """The hexadecimal part of `sha256:<hex>`."""
    return digest.partition(":")[2]


def is_digest(text: str) -> bool:
    """Whether `text` is `sha256:` and 64 lower-case hexadecimal digits; digests from outside become file names."""
    return _DIGEST.fullmatch(text) is not None
