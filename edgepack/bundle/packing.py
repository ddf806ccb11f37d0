"""Packing: a manifest and its blobs into one file, the same bytes for the same inputs, whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from edgepack import digest, files
from edgepack.bundle import oci
from edgepack.bundle.layout import BLOBS
from edgepack.bundle.reading import Bundle, open_bundle
from edgepack.digest import Digest
from edgepack.errors import BugError, InputError
from edgepack.manifest import Manifest

_CHUNK = 1 << 20


def pack(manifest: Manifest, blobs: Mapping[Digest, Path | bytes], out_dir: Path) -> Bundle:
    """Write `NAME-VERSION-PROFILE.edgepack` below `out_dir` and open it.

    blobs: the content of every digest that the manifest names: variants, golden samples, runtime locks. It is written
    beside its final name, synced and moved there, so an older file of that name stays until the new one is whole.
    Raises InputError where `out_dir` cannot be written or a blob is too large, BugError where a blob is not what it is
    said to be.
    """
    artifact = oci.describe(manifest)
    path = out_dir / f"{manifest.name}-{manifest.version}-{manifest.profile.name}.edgepack"
    try:
        with files.aside(path) as fresh, fresh.open("wb") as file:
            _write(file, artifact, manifest.blobs(), blobs)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}", advice="name another folder with -o, or free space there"
        ) from None
    return open_bundle(path)


def _write(
    file: BinaryIO, artifact: oci.Artifact, sizes: dict[Digest, int], blobs: Mapping[Digest, Path | bytes]
) -> None:
    tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
    _add(tar, "oci-layout", digest.canonical_json(oci.Layout(oci.LAYOUT_VERSION)))
    _add(tar, "index.json", artifact.index)
    given = {blob: blobs[blob] for blob in sizes if blob in blobs}
    if missing := sizes.keys() - given.keys():
        raise BugError(f"the manifest names blobs that were not given: {', '.join(sorted(missing))}")
    for blob, content in sorted({**given, **artifact.made}.items()):
        size = sizes.get(blob) if blob in given else None
        _add_blob(tar, blob, content, size)
    tar.close()


def write_tar(file: BinaryIO, index: bytes, blobs: Mapping[Digest, tuple[Callable[[Digest], BinaryIO], int]]) -> None:
    """An image layout as the same deterministic tar that `pack` writes. blobs: who opens each, and its bytes."""
    tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
    _add(tar, "oci-layout", digest.canonical_json(oci.Layout(oci.LAYOUT_VERSION)))
    _add(tar, "index.json", index)
    for blob, (open_blob, size) in sorted(blobs.items()):
        with open_blob(blob) as stream:
            tar.addfile(_member(BLOBS + digest.hex_of(blob), size), stream)
    tar.close()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))


def _add_blob(tar: tarfile.TarFile, blob: Digest, content: Path | bytes, wanted: int | None) -> None:
    with ExitStack() as stack:
        stream: BinaryIO = (
            io.BytesIO(content) if isinstance(content, bytes) else stack.enter_context(content.open("rb"))
        )
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if size > oci.MAX_BLOB:
            raise InputError(f"{content!r} has {size} bytes, too many for a bundle", expected=f"at most {oci.MAX_BLOB}")
        hashing = _Hashing(stream)
        tar.addfile(_member(BLOBS + digest.hex_of(blob), size), hashing)
        if hashing.hash.hexdigest() != digest.hex_of(blob) or wanted not in (None, size):
            raise BugError(f"a blob given for packing is not {blob} of {wanted} bytes")


class _Hashing(io.RawIOBase):
    """Hashes what tarfile copies, so that a blob is read once."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.hash.update(data)
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info
