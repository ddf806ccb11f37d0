"""How fast the link to a target was last time: `$EDGEPACK_HOME/links/TARGET.json`. It decides what is worth packing."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from edgepack import files
from edgepack.digest import canonical_json
from edgepack.home import home
from edgepack.target import Target

_LOOPBACK = 100e6
_LEAST_BYTES, _LEAST_SECONDS = 1 << 20, 2.0


class Link(Struct, frozen=True):
    """rate: bytes a second"""

    rate: float


def rate(target: Target, unknown: float) -> float:
    """Bytes a second: as measured, or else `unknown`. A board in this machine has no link to speak of."""
    if measured := _read(target.name):
        return measured.rate
    return _LOOPBACK if target.board == "loopback" else unknown


def measured(target: Target, sent: int, seconds: float) -> None:
    """Remember what a transfer says, if it was long enough to say anything."""
    if sent >= _LEAST_BYTES or (seconds >= _LEAST_SECONDS and sent >= _LEAST_BYTES / 16):
        files.replace(_file(target.name), canonical_json(Link(sent / seconds)))


def _read(target: str) -> Link | None:
    try:
        found = msgspec.json.decode(_file(target).read_bytes(), type=Link)
    except (FileNotFoundError, msgspec.DecodeError):  # what is measured anyway needs no mending
        return None
    return found if found.rate > 0 else None


def _file(target: str) -> Path:
    return home() / "links" / f"{target}.json"
