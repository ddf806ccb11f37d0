"""What is said of a bundle beside it: OCI artifacts whose subject it is. Putting one in changes no byte that was there."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

import msgspec

from edgepack import digest, files
from edgepack.bundle import oci
from edgepack.bundle.contents import Contents, Document
from edgepack.bundle.layout import BLOBS
from edgepack.bundle.oci import Descriptor, Referrer
from edgepack.bundle.packing import write_tar
from edgepack.bundle.reading import Bundle, open_bundle
from edgepack.digest import Digest
from edgepack.errors import InputError

EMPTY = "application/vnd.oci.empty.v1+json"
_NOTHING = b"{}"

Made = dict[Digest, bytes]
"""Blobs that are new, the OCI manifests among them."""


def make(
    kind: str, image: Document, layers: Mapping[str, bytes], annotations: dict[str, str] | None = None
) -> tuple[Document, Made]:
    """An artifact of type `kind` about a bundle's OCI manifest. layers: bytes by media type"""
    subject = Descriptor(
        media_type=oci.IMAGE_MANIFEST, artifact_type=oci.ARTIFACT, digest=image.digest, size=len(image.data)
    )
    manifest = digest.canonical_json(
        Referrer(
            artifact_type=kind,
            config=_descriptor(EMPTY, _NOTHING),
            layers=tuple(_descriptor(media_type, data) for media_type, data in layers.items()),
            subject=subject,
            annotations=annotations if annotations else msgspec.UNSET,
        )
    )
    made = {digest.of_bytes(data): data for data in (_NOTHING, *layers.values(), manifest)}
    return Document(manifest, {blob: len(data) for blob, data in made.items() if data != manifest}), made


def put(bundle: Bundle, after: Contents, made: Made) -> Bundle:
    """Write a bundle in its place with these contents, of which it lacks what was `made`.

    Raises InputError where it cannot be written, TrustError where one of its blobs is broken.
    """
    try:
        if bundle.path.is_dir():
            for blob, data in made.items():  # before the index: a reader sees all of it or nothing
                files.replace(bundle.path / BLOBS / digest.hex_of(blob), data)
            files.replace(bundle.path / "index.json", after.index)
        else:
            _write(bundle, after, made)
    except OSError as error:
        raise InputError(
            f"{bundle.path}: cannot be written: {os.strerror(error.errno or 0)}",
            advice="copy the bundle to a folder that you may write to, and sign it there",
        ) from None
    return open_bundle(bundle.path)


def _write(bundle: Bundle, after: Contents, made: Made) -> None:
    def opener(blob: Digest) -> Callable[[Digest], BinaryIO]:
        return (lambda one: io.BytesIO(made[one])) if blob in made else bundle.open_blob

    blobs = {blob: (opener(blob), size) for blob, size in after.blobs().items()}
    with files.aside(bundle.path) as fresh, fresh.open("wb") as file:
        write_tar(file, after.index, blobs)


def _descriptor(kind: str, data: bytes) -> Descriptor:
    return Descriptor(media_type=kind, digest=digest.of_bytes(data), size=len(data))
