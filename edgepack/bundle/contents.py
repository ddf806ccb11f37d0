"""All that makes a bundle, piece by piece, as a store keeps it and a registry carries it; and a file of it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack import digest, files
from edgepack.bundle import oci
from edgepack.bundle.oci import Descriptor, ImageManifest, Referrer
from edgepack.bundle.packing import write_tar
from edgepack.bundle.reading import Bundle, open_bundle
from edgepack.digest import Digest
from edgepack.errors import InputError

_MAX_PIECES = 2048
Open = Callable[[Digest], BinaryIO]


@dataclass(frozen=True)
class Document:
    """An OCI manifest as it is stored, and what it names: digest and bytes of each blob."""

    data: bytes
    blobs: dict[Digest, int]

    @property
    def digest(self) -> Digest:
        return digest.of_bytes(self.data)


@dataclass(frozen=True)
class Contents:
    """image: the bundle's OCI manifest; version: the tag's name

    signatures, attestations: the manifests that have it as their subject, by what they say of it
    """

    image: Document
    signatures: tuple[Document, ...]
    version: str
    attestations: tuple[Document, ...] = ()

    @property
    def referrers(self) -> tuple[Document, ...]:
        return (*self.signatures, *self.attestations)

    @property
    def index(self) -> bytes:
        """The `index.json` that belongs to it."""
        signatures, attestations = (tuple(one.digest for one in kind) for kind in (self.signatures, self.attestations))
        return oci.index_of(self.image.data, self.version, signatures, attestations)

    def blobs(self) -> dict[Digest, int]:
        """Every blob of the image layout, the OCI manifests included, with its bytes."""
        every: dict[Digest, int] = {}
        for document in (self.image, *self.referrers):
            every |= {document.digest: len(document.data), **document.blobs}
        return every


def read_image(data: bytes, where: str) -> Document:
    """The OCI manifest of a bundle. Raises InputError naming `where`: of something else, or with blobs that none may have."""
    image = oci.decode(data, ImageManifest, where, "its OCI manifest")
    own = [layer for layer in image.layers if layer.media_type == oci.RUNTIME_MANIFEST]
    if image.media_type != oci.IMAGE_MANIFEST or image.artifact_type != oci.ARTIFACT or len(own) != 1:
        raise InputError(
            f"{where}: an OCI artifact, but no bundle: its type is {image.artifact_type[:80]!r}",
            expected=f"{oci.ARTIFACT} with one runtime manifest",
            advice="name what edgepack publish wrote",
        )
    return Document(data, _sizes((image.config, *image.layers), where))


def version_of(image: bytes) -> str:
    """The version that an OCI manifest which was read says it holds; opening the bundle proves it."""
    return oci.decode(image, ImageManifest, "", "an OCI manifest").annotations.get(
        "org.opencontainers.image.version", ""
    )


def model_files(image: bytes, where: str) -> tuple[tuple[str, Digest, int], ...]:
    """The model files of any ModelPack artifact: name, digest and bytes. Raises InputError where it is none."""
    found = oci.decode(image, ImageManifest, where, "its OCI manifest")
    if found.artifact_type != oci.ARTIFACT:
        raise InputError(
            f"{where}: an OCI artifact, but of no model: {found.artifact_type[:80]!r}", expected=oci.ARTIFACT
        )
    weights = [layer for layer in found.layers if layer.media_type == oci.WEIGHTS]
    _sizes(tuple(weights), where)
    return tuple((layer.annotations.get(oci.FILEPATH, ""), layer.digest, layer.size) for layer in weights)


def read_referrer(data: bytes, kind: str, subject: Digest, where: str) -> Document:
    """The OCI manifest of what refers to `subject`. kind: its artifact type. Raises InputError naming `where`."""
    found = oci.decode(data, Referrer, where, "its OCI manifest")
    if found.artifact_type != kind or found.subject.digest != subject:
        what = {oci.SIGNATURE: "a signature", oci.ATTESTATION: "a statement of origin"}[kind]
        raise InputError(f"{where}: {what} of something else", expected=f"{kind} of {subject}")
    return Document(data, _sizes((found.config, *found.layers), where))


def _sizes(descriptors: tuple[Descriptor, ...], where: str) -> dict[Digest, int]:
    sizes: dict[Digest, int] = {}
    for one in descriptors:
        if not digest.is_digest(one.digest) or not 0 <= one.size <= oci.MAX_BLOB:
            raise InputError(f"{where}: {str(one.digest)[:80]!r} of {one.size} bytes cannot be a blob of a bundle")
        if one.media_type.startswith(oci.RUNTIME_MANIFEST) and one.size > oci.MAX_DOCUMENT:
            raise InputError(f"{where}: its runtime manifest has {one.size} bytes", expected=f"≤ {oci.MAX_DOCUMENT}")
        if sizes.setdefault(one.digest, one.size) != one.size:
            raise InputError(f"{where}: it gives the blob {one.digest} two sizes")
    if len(sizes) > _MAX_PIECES:
        raise InputError(f"{where}: it names {len(sizes)} blobs", expected=f"at most {_MAX_PIECES}")
    return sizes


def contents(bundle: Bundle) -> Contents:
    """The pieces of a bundle on this machine. Raises InputError or TrustError where what refers to it is broken."""
    where = str(bundle.path)

    def read(kind: str, named: tuple[Digest, ...]) -> tuple[Document, ...]:
        data = (bundle.read_blob(one, oci.MAX_DOCUMENT) for one in named)
        return tuple(read_referrer(one, kind, bundle.digest, where) for one in data)

    return Contents(
        read_image(bundle.read_blob(bundle.digest, oci.MAX_DOCUMENT), where),
        read(oci.SIGNATURE, bundle.signatures),
        bundle.manifest.version,
        read(oci.ATTESTATION, bundle.attestations),
    )


def export(bundle: Bundle, out: Path) -> Bundle:
    """Write a bundle as one file: to `out`, or below it under its usual name where `out` is a folder.

    The same content gives the same bytes, wherever it came from. Raises TrustError where a blob is not its digest,
    InputError where `out` cannot be written.
    """
    manifest, pieces = bundle.manifest, contents(bundle)
    name = f"{manifest.name}-{manifest.version}-{manifest.profile.name}.edgepack"
    path = out if out.suffix == ".edgepack" and not out.is_dir() else out / name
    try:
        with files.aside(path) as fresh, fresh.open("wb") as file:
            write_tar(file, pieces.index, {blob: (bundle.open_blob, size) for blob, size in pieces.blobs().items()})
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {os.strerror(error.errno or 0)}", advice="name another folder with -o"
        ) from None
    return open_bundle(path)
