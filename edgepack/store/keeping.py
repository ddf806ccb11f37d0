"""What the store holds, what comes in and what is thrown away. Safe beside other processes at any time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from edgepack import bundle, digest, files, names
from edgepack.bundle import Bundle, Contents
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.home import home
from edgepack.store.staging import Staging

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Entry(Struct, frozen=True, kw_only=True):
    """One bundle of the store. size: bytes of all its blobs, shared ones included

    added: nanoseconds since 1970, this machine's clock, only for the order; origin: where it came from, for people
    """

    name: str
    version: str
    profile: str
    digest: Digest
    size: int
    signed: bool
    added: int
    origin: str

    @property
    def path(self) -> Path:
        """An image layout as a folder: what any command takes for BUNDLE."""
        return _bundles() / digest.hex_of(self.digest)

    def document(self) -> dict[str, Any]:
        return {**msgspec.structs.asdict(self), "path": str(self.path)}


def _store() -> Path:
    return home() / "store"


def _bundles() -> Path:
    return _store() / "bundles"


def _shared() -> Path:
    return _store() / "blobs/sha256"


@contextmanager
def stage() -> Iterator[Staging]:
    """A place to bring a bundle's blobs to. It vanishes at the end of the block, whatever became of it."""
    with _locked_folder(_store() / "staging") as folder:
        (folder / "layout/blobs/sha256").mkdir(parents=True)
        _shared().mkdir(parents=True, exist_ok=True)
        yield Staging(folder / "layout", _shared())


@contextmanager
def _locked_folder(parent: Path) -> Iterator[Path]:
    """A fresh folder below `parent`, locked while its maker lives, so that `gc` can tell what a crash left behind."""
    parent.mkdir(parents=True, exist_ok=True)
    with _gate(parent):
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def _gate(parent: Path) -> Iterator[None]:
    """Between making a folder and locking it nobody may look for folders without a lock."""
    with (parent / ".gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield


def keep(staging: Staging, pieces: Contents, origin: str) -> Entry:
    """Make what was staged a bundle of the store: one rename, after it was opened and found whole.

    A bundle that is there already stays, unless the new one brings signatures or statements of origin that it lacks.
    """
    files.replace(staging.folder / "oci-layout", _LAYOUT)
    files.replace(staging.folder / "index.json", pieces.index)
    opened = bundle.open_bundle(staging.folder)
    manifest = opened.manifest
    if manifest.version != pieces.version:
        raise InputError(f"{origin}: its OCI manifest is of {pieces.version!r}, its own of {manifest.version}")
    entry = Entry(
        name=manifest.name,
        version=manifest.version,
        profile=manifest.profile.name,
        digest=opened.digest,
        size=sum(pieces.blobs().values()),
        signed=bool(pieces.signatures),
        added=time.time_ns(),
        origin=origin,
    )
    files.replace(staging.folder / "entry.json", digest.canonical_json(entry))
    files.sync(staging.folder / "blobs/sha256")
    entry.path.parent.mkdir(parents=True, exist_ok=True)
    with _gate(entry.path.parent):
        known = _read(entry.path)
        if known is not None:
            return _add_referrers(staging, pieces, known)
        staging.folder.replace(entry.path)
        files.sync(entry.path.parent)
    return entry


def _add_referrers(staging: Staging, pieces: Contents, known: Entry) -> Entry:
    """A bundle that is there stays, and gets what is said of it anew: the blobs first, then the list of them."""
    have = bundle.contents(bundle.open_bundle(known.path))
    signatures, attestations = (
        tuple({one.digest: one for one in both}.values())
        for both in ((*have.signatures, *pieces.signatures), (*have.attestations, *pieces.attestations))
    )
    union = Contents(have.image, signatures, have.version, attestations)
    if len(union.referrers) == len(have.referrers):
        return known
    own = Staging(known.path, staging.shared)
    for blob, size in union.blobs().items():
        with (staging.folder / "blobs/sha256" / digest.hex_of(blob)).open("rb") as stream:
            own.put(blob, size, stream)
    files.replace(known.path / "index.json", union.index)
    entry = msgspec.structs.replace(known, signed=bool(signatures), size=sum(union.blobs().values()))
    files.replace(known.path / "entry.json", digest.canonical_json(entry))
    return entry


def add(source: Bundle, origin: str) -> Entry:
    """Keep a bundle. Every blob is checked while it is copied: raises TrustError where one is not its digest."""
    pieces = bundle.contents(source)
    known = _read(_bundles() / digest.hex_of(source.digest))
    if known is not None and not pieces.referrers:
        source.verify()
        return known
    with stage() as staging:
        for blob, size in pieces.blobs().items():
            with source.open_blob(blob) as stream:
                staging.put(blob, size, stream)
        return keep(staging, pieces, origin)


def entries(name: str = "") -> tuple[Entry, ...]:
    """All bundles, or those of one name: by name, version (as semver.org orders them), profile, and when they came."""
    try:
        folders = list(_bundles().iterdir())
    except FileNotFoundError:
        return ()
    found = [entry for folder in folders if (entry := _read(folder)) and name in ("", entry.name)]
    return tuple(sorted(found, key=lambda e: (e.name, names.version_key(e.version), e.profile, e.added, e.digest)))


def _read(folder: Path) -> Entry | None:
    try:
        data = (folder / "entry.json").read_bytes()
        signed = bundle.SIGNED_BY.encode() in (folder / "index.json").read_bytes()  # `sign` may have come later
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return msgspec.structs.replace(msgspec.json.decode(data, type=Entry), signed=signed)
    except msgspec.DecodeError as error:
        raise InputError(f"{folder}/entry.json: {error}", advice=f"remove {folder} and fetch it again") from None


def find(name: str, version: str = "", profile: str = "", content: str = "") -> Entry:
    """The bundle that this means: the highest version where none is named, and of one version the one that came last.

    content: a digest, whole or its first hexadecimal digits. Raises InputError where there is none, or one for each of
    several profiles and none was named.
    """
    known = entries(name)
    matching = [e for e in known if version in ("", e.version) and profile in ("", e.profile)]
    matching = [e for e in matching if digest.hex_of(e.digest).startswith(content.removeprefix("sha256:"))]
    if not matching:
        wanted = name + (f"@{version}" if version else "") + (f" for {profile}" if profile else "")
        have = ", ".join(dict.fromkeys(f"{e.name}@{e.version}" for e in known)) or ", ".join(
            dict.fromkeys(e.name for e in entries())
        )
        raise InputError(
            f"the store holds no {wanted}", expected=have or "a bundle (the store is empty)", advice="edgepack list"
        )
    highest = max(names.version_key(e.version) for e in matching)
    matching = [e for e in matching if names.version_key(e.version) == highest]
    if len(profiles := sorted({e.profile for e in matching})) > 1:
        raise InputError(
            f"the store holds {name} {matching[-1].version} for several profiles",
            expected=f"one of {', '.join(f'{name}@{matching[-1].version}/{p}' for p in profiles)}",
            advice="name the profile as well",
        )
    return matching[-1]


def remove(gone: Sequence[Entry]) -> None:
    """Forget bundles: each folder vanishes by one rename. Their blobs stay until `gc`."""
    for entry in gone:
        with _locked_folder(_store() / "staging") as folder:
            try:
                entry.path.replace(folder / "gone")
            except FileNotFoundError:
                continue


class Freed(Struct, frozen=True):
    """What `gc` threw away, or would: bundles, and the bytes and number of blobs that only they held."""

    bundles: tuple[Entry, ...]
    blobs: int
    bytes: int


def gc(keep_versions: int = 0, dry_run: bool = False) -> Freed:
    """Throw away blobs that no bundle holds and what crashes left; with `keep_versions`, first all but that many versions
    of each name and profile, the highest kept, and of one version every build but the last.
    """
    gone = superseded(entries(), keep_versions) if keep_versions else ()
    staying = {e.digest for e in entries()} - {e.digest for e in gone}
    loose = _loose([_bundles() / digest.hex_of(one) for one in staying])
    freed = Freed(gone, len(loose), sum(loose.values()))
    if dry_run:
        return freed
    remove(gone)
    _clear_crashed()
    for path in loose:  # the store's own name only: a bundle that took the blob meanwhile has a name of its own for it
        path.unlink(missing_ok=True)
    return freed


def superseded(every: Sequence[Entry], keep_versions: int) -> tuple[Entry, ...]:
    """Which bundles are beyond the newest `keep_versions` versions of their name and profile. Pure."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in every:
        groups.setdefault((entry.name, entry.profile), []).append(entry)
    gone = []
    for group in groups.values():
        last = {entry.version: entry for entry in group}  # `every` is in the order of coming
        kept = sorted(last.values(), key=lambda e: names.version_key(e.version))[-keep_versions:]
        gone += [entry for entry in group if entry.digest not in {e.digest for e in kept}]
    return tuple(gone)


def _loose(staying: Sequence[Path]) -> dict[Path, int]:
    held = {blob.name for folder in staying for blob in _list(folder / "blobs/sha256")}
    loose: dict[Path, int] = {}
    for path in _list(_shared()):
        with contextlib.suppress(FileNotFoundError):  # another gc was quicker
            loose |= {} if path.name in held else {path: path.stat().st_size}
    return loose


def _list(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


def _clear_crashed() -> None:
    staging = _store() / "staging"
    if not staging.is_dir():
        return
    with _gate(staging):
        for folder in _list(staging):
            if folder.is_dir():
                _clear_unlocked(folder)


def _clear_unlocked(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:  # its maker came to an end meanwhile
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
