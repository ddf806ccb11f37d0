"""What is on disk for names to mean: profiles shipped and the user's own, inventories, host keys that were pinned."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from edgepack import documents, files, profile, target
from edgepack.errors import InputError, UsageError
from edgepack.home import home, shipped
from edgepack.profile import Resolved
from edgepack.target import Target


class Pin(Struct, frozen=True):
    """A host key as `SHA256:…`, pinned by `edgepack target enrol` for a name at an address."""

    host: str
    port: int
    host_key: str


def load_profiles(names: Sequence[str] = ()) -> tuple[Resolved, ...]:
    """The profiles of these names, or all. A name that ends in `.toml` is a file of the user's own.

    Raises UsageError for an unknown name, with the nearest; InputError for a wrong document.
    """
    texts = {path.stem: path.read_text() for path in sorted(shipped("profiles").glob("*.toml"))}
    found = []
    for name in names or sorted(texts):
        if name.endswith(".toml"):
            name = _read_own(Path(name), texts)
        elif name not in texts:
            near = difflib.get_close_matches(name, texts, n=1, cutoff=0.4)
            hint = f"perhaps you meant {near[0]!r}? " if near else ""
            raise UsageError(
                f"unknown profile {name!r}", advice=f"{hint}Profiles: {', '.join(sorted(texts))}; or name a .toml file"
            )
        found.append(profile.resolve(name, texts))
    return tuple(found)


def _read_own(path: Path, texts: dict[str, str]) -> str:
    if not path.is_file():
        raise UsageError(f"profile {path} does not exist", advice="edgepack profile list")
    if path.stem in texts and path.resolve().parent != shipped("profiles").resolve():
        raise UsageError(
            f"{path}: the name {path.stem!r} is a shipped profile's", advice="rename the file and use `extends`"
        )
    texts[path.stem] = path.read_text()
    return path.stem


def load_targets(inventory: Path | None = None) -> tuple[Target, ...]:
    """All targets known: of `inventory` if given, else of `./targets/*.toml`; and always the user's own and running boards.

    Host keys that were pinned by `target enrol` are filled in. Raises InputError for a wrong document or a name twice.
    """
    if inventory is not None and not inventory.is_file():
        raise UsageError(f"inventory {inventory} does not exist", expected="a TOML file of targets")
    files = [inventory] if inventory else sorted(Path("targets").glob("*.toml"))
    files += sorted((home() / "targets").glob("*.toml"))
    pins = _read_pins()
    known: dict[str, Target] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for found in target.read_inventory(file.read_text(), str(file)):
            if found.name in known:
                raise InputError(
                    f"{file}: target {found.name!r} is also defined in {origin[found.name]}",
                    advice="rename one of them",
                )
            known[found.name], origin[found.name] = _pinned(found, pins), file
    return tuple(known.values())


def find_targets(words: Sequence[str], inventory: Path | None = None) -> tuple[Target, ...]:
    """The targets that names and label expressions mean (see `target.select`)."""
    return target.select(words, load_targets(inventory))


def pin(found: Target, host_key: str) -> None:
    """Remember `host_key` (`SHA256:…`) as the key of this target. Atomic: a reader sees the old pins or the new."""
    pins = _read_pins() | {found.name: Pin(found.host, found.port, host_key)}
    files.replace(_pins_file(), msgspec.json.format(msgspec.json.encode(pins, order="sorted")))


def _pins_file() -> Path:
    return home() / "host_keys.json"


def _read_pins() -> dict[str, Pin]:
    file = _pins_file()
    if not file.exists():
        return {}
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Pin])
    except msgspec.DecodeError as error:
        raise InputError(
            f"{file}: not readable: {error}", advice=f"remove {file} and enrol the targets again"
        ) from None


def _pinned(found: Target, pins: dict[str, Pin]) -> Target:
    known = pins.get(found.name)
    # A pin belongs to an address: a target that moved must be enrolled again.
    if found.host_key or known is None or (known.host, known.port) != (found.host, found.port):
        return found
    return msgspec.structs.replace(found, host_key=known.host_key)


def resolve_project(file: Path | None, flags: documents.Tables) -> tuple[documents.Tables, tuple[documents.Layer, ...]]:
    """The merged raw tables of an `edgepack.toml` (if any) under the flags, and the layers they came from."""
    own = documents.parse_toml(file.read_text(), str(file)) if file else {}
    layers: tuple[documents.Layer, ...] = (("flag", flags), (str(file.name) if file else "edgepack.toml", own))
    return documents.merge(own, flags), layers
