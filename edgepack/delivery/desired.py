"""What was last pushed to each target: `$EDGEPACK_HOME/desired/TARGET.json`, to be held against what the board says."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from edgepack import files
from edgepack.digest import canonical_json
from edgepack.errors import InputError
from edgepack.home import home


class Desired(Struct, frozen=True):
    version: str
    digest: str


def read(target: str) -> dict[str, Desired]:
    """By release name. Raises InputError for a file that is broken."""
    path = _file(target)
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Desired])
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not readable: {error}", advice=f"remove {path}; the next push writes it") from None


def write(target: str, name: str, wanted: Desired) -> None:
    files.replace(_file(target), canonical_json(read(target) | {name: wanted}))


def _file(target: str) -> Path:
    return home() / "desired" / f"{target}.json"
