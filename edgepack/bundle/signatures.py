"""Signatures in a bundle: each an OCI artifact whose subject is the bundle, with a release record and an SSHSIG over it.

Signing changes neither the bundle's digest nor any blob that was there (docs/adr/0005).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edgepack import digest, files
from edgepack.bundle import oci
from edgepack.bundle.contents import Document, contents, read_signature
from edgepack.bundle.layout import BLOBS
from edgepack.bundle.oci import Descriptor, Referrer
from edgepack.bundle.packing import write_tar
from edgepack.bundle.reading import Bundle, open_bundle
from edgepack.digest import Digest
from edgepack.errors import InputError

RECORD = "application/vnd.edgepack.release.v1+json"
SSHSIG = "application/vnd.edgepack.sshsig.v1"
EMPTY = "application/vnd.oci.empty.v1+json"
_NOTHING = b"{}"
_MAX = 16 << 10


@dataclass(frozen=True)
class Statement:
    """A release record as it was signed, and the armored SSHSIG over it."""

    record: bytes
    signature: str


def statements(bundle: Bundle) -> tuple[Statement, ...]:
    """What signatures the bundle holds, in the order of their digests; not yet checked.

    Raises TrustError where bytes are not what a digest says, InputError where a signature is of something else.
    """
    return tuple(_statement(bundle, one) for one in sorted(bundle.signatures))


def _statement(bundle: Bundle, manifest: Digest) -> Statement:
    where = f"{bundle.path}: signature {manifest}"
    data = bundle.read_blob(manifest, oci.MAX_DOCUMENT)
    read_signature(data, bundle.digest, where)
    layers = {layer.media_type: layer.digest for layer in oci.decode(data, Referrer, where, "its OCI manifest").layers}
    if set(layers) != {RECORD, SSHSIG}:
        raise InputError(
            f"{where}: it holds {', '.join(sorted(layers)) or 'nothing'}",
            expected=f"one {RECORD} and one {SSHSIG}",
            advice="update edgepack if it was signed by a newer one; else sign the bundle again",
        )
    signature = bundle.read_blob(layers[SSHSIG], _MAX)
    return Statement(bundle.read_blob(layers[RECORD], _MAX), signature.decode("ascii", "replace"))


def attach(bundle: Bundle, statement: Statement, *, beside: bool = False) -> Bundle:
    """Put a signature into a bundle in place of those that it has, or `beside` them; the bundle's own bytes stay.

    Raises InputError where the bundle cannot be written, TrustError where one of its blobs is broken.
    """
    before = contents(bundle if beside else replace(bundle, signatures=()))
    fresh, made = _document(statement, len(before.image.data), before.image.digest)
    kept = tuple(one for one in before.signatures if one.digest != fresh.digest)
    after = replace(before, signatures=(*kept, fresh))
    try:
        if bundle.path.is_dir():
            _add_to_folder(bundle.path, after.index, made)
        else:
            _write(bundle, after.index, after.blobs(), made)
    except OSError as error:
        raise InputError(
            f"{bundle.path}: cannot be written: {os.strerror(error.errno or 0)}",
            advice="copy the bundle to a folder that you may write to, and sign it there",
        ) from None
    return open_bundle(bundle.path)


def _document(statement: Statement, size: int, subject: Digest) -> tuple[Document, dict[Digest, bytes]]:
    blobs = {RECORD: statement.record, SSHSIG: statement.signature.encode()}
    manifest = digest.canonical_json(
        Referrer(
            artifact_type=oci.SIGNATURE,
            config=_descriptor(EMPTY, _NOTHING),
            layers=tuple(_descriptor(kind, data) for kind, data in blobs.items()),
            subject=Descriptor(media_type=oci.IMAGE_MANIFEST, artifact_type=oci.ARTIFACT, digest=subject, size=size),
        )
    )
    made = {digest.of_bytes(data): data for data in (_NOTHING, *blobs.values(), manifest)}
    sizes = {blob: len(data) for blob, data in made.items() if data != manifest}
    return Document(manifest, sizes), made


def _descriptor(kind: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=kind, digest=digest.of_bytes(data), size=len(data))


def _write(bundle: Bundle, index: bytes, sizes: dict[Digest, int], made: dict[Digest, bytes]) -> None:
    def opener(blob: Digest) -> Callable[[Digest], BinaryIO]:
        return (lambda one: io.BytesIO(made[one])) if blob in made else bundle.open_blob

    blobs = {blob: (opener(blob), size) for blob, size in sizes.items()}
    with files.aside(bundle.path) as fresh, fresh.open("wb") as file:
        write_tar(file, index, blobs)


def _add_to_folder(folder: Path, index: bytes, made: dict[Digest, bytes]) -> None:
    """The blobs first: a reader sees the signatures of before, or all of the new one."""
    for blob, data in made.items():
        files.replace(folder / BLOBS / digest.hex_of(blob), data)
    files.replace(folder / "index.json", index)
