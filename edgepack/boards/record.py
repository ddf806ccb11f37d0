"""What edgepack remembers of a board it started, and the inventory file that makes it a target."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from edgepack import digest
from edgepack.boards import keys, places
from edgepack.errors import InputError, UsageError
from edgepack.target import BoardKind, Target, read_inventory


class Record(Struct, frozen=True, kw_only=True):
    """A board as it was last started. group: the name it was asked for by, `NAME` of `NAME-1`; pid, born: its server"""

    schema: Literal["edgepack.board/1"] = "edgepack.board/1"
    name: str
    group: str
    kind: BoardKind
    profile: str
    host: str = "127.0.0.1"
    port: int
    user: str
    pid: int
    born: str


class BoardState(Struct, frozen=True, kw_only=True):
    """A board as `edgepack board list` shows it."""

    name: str
    kind: BoardKind
    profile: str
    host: str
    port: int
    running: bool
    pid: int


def read(name: str) -> Record | None:
    """The board's record, None where there is none. Raises InputError where the file is not ours."""
    path = places.folder(name) / places.STATE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise InputError(f"{path}: not a board's record: {error}", advice=f"edgepack board down {name}") from None


def write(record: Record) -> None:
    replace(places.folder(record.name) / places.STATE, digest.canonical_json(record))


def names() -> tuple[str, ...]:
    """Every board that has a folder, running or not."""
    if not places.boards().is_dir():
        return ()
    return tuple(sorted(path.name for path in places.boards().iterdir() if path.is_dir()))


def target_of(record: Record) -> Target:
    folder = places.folder(record.name)
    return Target(
        name=record.name,
        host=record.host,
        port=record.port,
        user=record.user,
        profile=record.profile,
        identity=str(folder / places.CLIENT_KEY),
        host_key=keys.fingerprint(folder / places.HOST_KEY),
        labels={"board": record.group, "kind": record.kind},
        board=record.kind,
    )


def enlist(target: Target) -> None:
    """Write the board's inventory file."""
    path = places.inventory(target.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, inventory_text(target).encode())


def inventory_text(target: Target) -> str:
    """A board's target in the inventory's TOML."""
    labels = ", ".join(f"{key} = {_quote(value)}" for key, value in target.labels.items())
    lines = [
        f"# written by `edgepack board up`, removed by `edgepack board down {target.name}`",
        f"[targets.{_quote(target.name)}]",
        f"host = {_quote(target.host)}",
        f"port = {target.port}",
        f"user = {_quote(target.user)}",
        f"profile = {_quote(target.profile)}",
        f"identity = {_quote(target.identity)}",
        f"host_key = {_quote(target.host_key)}",
        f"board = {_quote(target.board or '')}",
        f"labels = {{ {labels} }}",
    ]
    return "\n".join(lines) + "\n"


def refuse_foreign(name: str) -> None:
    """Raises UsageError where the user's inventory already has a target of that name that is no board of ours."""
    path = places.inventory(name)
    if not path.exists():
        return
    if any(target.board is None for target in read_inventory(path.read_text(), str(path))):
        raise UsageError(
            f"{path}: there is already a target {name!r}, and it is no board", advice="choose another name"
        )


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `path` alone among all processes; the next one waits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def replace(path: Path, data: bytes) -> None:
    aside = path.with_name(path.name + ".new")
    aside.touch(mode=0o600)
    aside.write_bytes(data)
    aside.replace(path)


def _quote(text: str) -> str:
    """A TOML basic string: JSON's escapes are a part of TOML's."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
