"""log.jsonl: an append-only record of what was done here, each entry holding the hash of the one before it."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import BinaryIO, NamedTuple

_TAIL = 1 << 16
START = "0" * 64


class Health(NamedTuple):
    """entries: whole lines; intact: every line holds the hash of the one before it"""

    entries: int
    intact: bool


def append(root: str, verb: str, **what: str) -> None:
    """Add one durable entry. Call it under the lock.

    A line that a power cut tore is ended first; the chain goes on from its bytes, so that the tear stays visible.
    """
    path = os.path.join(root, "log.jsonl")
    with open(path, "ab+") as file:
        previous = _last_line(file)
        entry = {"at": round(time.time(), 3), "verb": verb, "previous": _hash(previous) if previous else START, **what}
        end = b"" if not previous or previous.endswith(b"\n") else b"\n"
        file.write(end + json.dumps(entry, sort_keys=True).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def last_who(root: str, name: str) -> str:
    """Who asked for the last thing that was done to a release of that name; empty where the log does not tell."""
    try:
        with open(os.path.join(root, "log.jsonl"), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            lines = file.read().splitlines()
    except FileNotFoundError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:  # torn by a power cut, or begun before the tail
            continue
        if entry.get("name") == name and entry.get("who"):
            return str(entry["who"])
    return ""


def check(root: str) -> Health:
    """Walk the chain."""
    expected, entries, intact = START, 0, True
    try:
        with open(os.path.join(root, "log.jsonl"), "rb") as file:
            for line in file:
                try:
                    intact = intact and json.loads(line)["previous"] == expected
                except (ValueError, KeyError, TypeError):
                    intact = False
                expected = _hash(line)
                entries += 1
    except FileNotFoundError:
        return Health(0, True)
    return Health(entries, intact)


def _hash(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest()


def _last_line(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL))
    lines = file.read().splitlines(keepends=True)
    return lines[-1] if lines else b""
