"""An initial RAM disk: files in cpio's newc format, as the kernel unpacks it (its early-userspace/buffer-format.rst)."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """path: relative to /; data: None for a folder"""

    path: str
    data: bytes | None = None
    mode: int = 0o755


def archive(entries: Sequence[Entry]) -> bytes:
    """The entries in order, a folder before what it holds. Archives may be joined: each is padded to four bytes."""
    return b"".join(_one(number, entry) for number, entry in enumerate([*entries, Entry("TRAILER!!!", b"", 0)], 1))


def _one(number: int, entry: Entry) -> bytes:
    data = entry.data or b""
    kind = 0 if entry.path == "TRAILER!!!" else stat.S_IFDIR if entry.data is None else stat.S_IFREG
    name = entry.path.encode() + b"\0"
    #         inode, mode, uid, gid, links, mtime, size, device ×2, special device ×2, length of the name, checksum
    fields = (number, kind | entry.mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + name
    return _padded(head) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
