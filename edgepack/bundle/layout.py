"""An OCI image layout as a place to read from: a tar that is read by offset and never unpacked, or a folder.

Either may come from anybody. A tar is walked header by header and only plain files and folders are accepted; nothing is
ever written to a path that it names.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from edgepack import digest
from edgepack.bundle.oci import MAX_BLOB
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOBS = "blobs/sha256/"
_BLOCK = 512
_MEMBERS = 4096
_LONGEST_NAME = 100
_NO_BUNDLE = "a bundle: an OCI image layout in an uncompressed tar, or the same unpacked as a folder"


@dataclass(frozen=True)
class Extent:
    """Where a file's bytes are: in the file at `path`, from `offset` on, `size` of them."""

    path: Path
    offset: int
    size: int


class Layout(Protocol):
    """The files of a layout by their names in it; `names` lists at least all blobs."""

    @property
    def path(self) -> Path: ...

    def names(self) -> tuple[str, ...]: ...

    def find(self, name: str) -> Extent | None:
        """The file `name`, or None where there is none. Raises InputError where it is something else."""
        ...


@dataclass(frozen=True)
class Archive:
    """A layout in a tar. members: every plain file by its name."""

    path: Path
    members: dict[str, Extent]

    def names(self) -> tuple[str, ...]:
        return tuple(self.members)

    def find(self, name: str) -> Extent | None:
        return self.members.get(name)


@dataclass(frozen=True)
class Folder:
    """A layout unpacked."""

    path: Path

    def names(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(BLOBS + entry.name for entry in (self.path / BLOBS).iterdir()))
        except (FileNotFoundError, NotADirectoryError):
            return ()

    def find(self, name: str) -> Extent | None:
        file = self.path / name
        try:
            status = file.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{file}: not a plain file", expected=_NO_BUNDLE)
        return Extent(file, 0, status.st_size)


def open_layout(path: Path) -> Layout:
    """The layout at `path`. Raises InputError naming it: missing, no tar, truncated, or with members that none may have."""
    try:
        if path.is_dir():
            return Folder(path)
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise InputError(f"{path}: not a plain file", expected=_NO_BUNDLE)
        with path.open("rb") as file:
            return Archive(path, _members(file, path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file", expected=_NO_BUNDLE) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}", expected=_NO_BUNDLE) from None


def _members(file: BinaryIO, path: Path) -> dict[str, Extent]:
    end = os.fstat(file.fileno()).st_size
    members: dict[str, Extent] = {}
    seen: set[str] = set()
    at = 0
    while True:
        file.seek(at)
        block = file.read(_BLOCK)
        if block == bytes(_BLOCK):
            return members
        if len(block) < _BLOCK:
            raise _not_a_bundle(path, "it is cut short" if at else "it is no tar")
        info = _header(block, path, first=at == 0)
        name = info.name.removeprefix("./").rstrip("/")
        at += _BLOCK
        if info.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            _check_member(info, name, at, end, path)
            members[name] = Extent(path, at, info.size)
            at += -(-info.size // _BLOCK) * _BLOCK
        elif not info.isdir() or info.size:
            raise _not_a_bundle(path, f"its member {name!r} is neither a plain file nor a folder")
        if name in seen or len(seen) >= _MEMBERS:
            raise _not_a_bundle(
                path, f"it has its member {name!r} twice" if name in seen else "it has too many members"
            )
        seen.add(name)


def _header(block: bytes, path: Path, *, first: bool) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError, ValueError):
        raise _not_a_bundle(path, "it is no tar" if first else "one of its headers is broken") from None


def _check_member(info: tarfile.TarInfo, name: str, at: int, end: int, path: Path) -> None:
    parts = name.split("/")
    if not name or name.startswith("/") or ".." in parts or "" in parts or not name.isprintable() or "\\" in name:
        raise _not_a_bundle(path, f"its member {name[:_LONGEST_NAME]!r} has a name that no bundle has")
    if not 0 <= info.size <= MAX_BLOB:
        raise _not_a_bundle(path, f"its member {name!r} says that it has {info.size} bytes")
    if at + info.size > end:
        raise _not_a_bundle(path, f"it is cut short in {name!r}")


def _not_a_bundle(path: Path, why: str) -> InputError:
    return InputError(
        f"{path}: not a bundle: {why}",
        expected=_NO_BUNDLE,
        advice="copy it again, or build it again with edgepack build",
    )


def open_checked(extent: Extent, wanted: Digest) -> BinaryIO:
    """The bytes of a blob as a stream that is read and forgotten.

    Read from its start, it raises TrustError instead of handing out the end of a blob whose digest is not `wanted`.
    After a seek there is nothing to compare, so whoever resumes in the middle verifies the blob before.
    """
    return io.BufferedReader(_Checked(extent, wanted), 1 << 20)


def read_limited(layout: Layout, extent: Extent, limit: int) -> bytes:
    """All bytes of a small file. Raises InputError above `limit` bytes."""
    if extent.size > limit:
        raise InputError(f"{layout.path}: a document of {extent.size} bytes is too large", expected=f"at most {limit}")
    with _open(extent) as file:
        file.seek(extent.offset)
        return file.read(extent.size)


def _open(extent: Extent) -> BinaryIO:
    """Neither follows a link nor waits for a pipe that took the file's place."""
    try:
        descriptor = os.open(extent.path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    except OSError as error:
        raise InputError(f"{extent.path}: cannot be read: {error.strerror}", expected=_NO_BUNDLE) from None
    return os.fdopen(descriptor, "rb")


class _Checked(io.RawIOBase):
    def __init__(self, extent: Extent, wanted: Digest) -> None:
        self._file = _open(extent)
        self._extent, self._wanted = extent, wanted
        self._at = self._hashed = 0
        self._hash = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        view = view[: max(0, min(len(view), self._extent.size - self._at))]
        self._file.seek(self._extent.offset + self._at)
        count = self._file.readinto(view)  # type: ignore[attr-defined]
        if view and not count:
            raise TrustError(f"{self._extent.path}: it became shorter while it was read", advice="copy it again")
        if self._at == self._hashed:
            self._hash.update(view[:count])
            self._hashed += count
        self._at += count
        if self._hashed == self._extent.size and self._hash.hexdigest() != digest.hex_of(self._wanted):
            raise broken_blob(self._extent.path, self._wanted)
        return int(count)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._extent.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()


def broken_blob(path: Path, wanted: Digest) -> TrustError:
    return TrustError(
        f"{path}: the blob {wanted} holds other bytes than its digest says",
        expected="a bundle as it was built",
        advice="copy the bundle again; do not use it as it is",
    )
