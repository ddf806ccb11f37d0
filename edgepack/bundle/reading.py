"""Opening a bundle: from a file or a folder that anybody may have made, to a manifest that is consistent with its blobs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from edgepack import digest, lock, manifest
from edgepack.bundle import oci
from edgepack.bundle.layout import BLOBS, Extent, Layout, broken_blob, open_checked, open_layout, read_limited
from edgepack.bundle.oci import Descriptor, ImageManifest, Index
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError
from edgepack.lock import RuntimeLock
from edgepack.manifest import Manifest

_MAX_LOCK = 1 << 20
_CHUNK = 1 << 20
MAX_REFERRERS = 64
"""Signatures of one bundle, and statements of its origin, at most."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle on this machine. Opening it checked its documents; `verify` checks every byte.

    digest: of the OCI manifest, what names the bundle everywhere; manifest_bytes: the runtime manifest as it is stored
    signatures: digests of the OCI manifests that say that they sign this one, as `index.json` names them
    attestations: of those that hold a signed statement of its origin, likewise
    """

    path: Path
    digest: Digest
    manifest: Manifest
    manifest_bytes: bytes
    signatures: tuple[Digest, ...]
    attestations: tuple[Digest, ...]
    _layout: Layout
    _blobs: dict[Digest, Extent]

    def size_of(self, blob: Digest) -> int:
        """Bytes of a blob. Raises InputError where the bundle holds none of that digest."""
        return self._extent(blob).size

    def open_blob(self, blob: Digest) -> BinaryIO:
        """A blob as a seekable stream; read from its start, it raises TrustError rather than end on wrong bytes."""
        return open_checked(self._extent(blob), blob)

    def read_blob(self, blob: Digest, limit: int) -> bytes:
        """All bytes of a blob, digest checked. Raises InputError above `limit` bytes, TrustError on other bytes."""
        data = read_limited(self._layout, self._extent(blob), limit)
        if digest.of_bytes(data) != blob:
            raise broken_blob(self.path, blob)
        return data

    @cached_property
    def locks(self) -> tuple[RuntimeLock, ...]:
        """The runtime locks that travel with the bundle."""
        records = self.manifest.locks
        return tuple(lock.decode(self.read_blob(r.digest, _MAX_LOCK), f"{self.path}: lock {r.digest}") for r in records)

    def document(self, kind: str) -> bytes | None:
        """The paper of this kind (`provenance`, `sbom`, `card`) that travels with the bundle, or None."""
        record = next((one for one in self.manifest.documents if one.kind == kind), None)
        return None if record is None else self.read_blob(record.digest, oci.MAX_DOCUMENT)

    def verify(self) -> None:
        """Read every blob once and compare it with its digest. Raises TrustError naming the first that differs."""
        for blob in self._blobs:
            with self.open_blob(blob) as stream:
                while stream.read(_CHUNK):
                    pass

    def _extent(self, blob: Digest) -> Extent:
        try:
            return self._blobs[blob]
        except KeyError:
            raise InputError(f"{self.path}: the bundle holds no blob {blob}") from None


def open_bundle(path: str | Path) -> Bundle:
    """The bundle at `path`, a file or a folder; nothing is unpacked and no blob is read but its documents.

    Raises InputError naming `path` (missing, no bundle, truncated, evil members, missing or contradicting blobs, a newer
    schema) and TrustError where a document is not what its digest says.
    """
    path = Path(path)
    layout = open_layout(path)
    _check_layout(layout)
    blobs = _blobs(layout)
    index = _index(layout)
    top = index.manifests[0]
    image = oci.decode(_document(layout, blobs, top), ImageManifest, str(path), "its OCI manifest")
    own = _runtime_manifest(layout, image)
    _check_descriptors(layout, blobs, (image.config, *image.layers))
    data = _document(layout, blobs, own)
    decoded = manifest.decode(data, str(path))
    _check_references(layout, decoded, {layer.digest: layer.size for layer in image.layers})
    signatures, attestations = (_referrers(layout, index, name) for name in (oci.SIGNED_BY, oci.ATTESTED_BY))
    return Bundle(path, top.digest, decoded, data, signatures, attestations, layout, blobs)


def _check_layout(layout: Layout) -> None:
    marker = layout.find("oci-layout")
    if marker is None:
        raise _inconsistent(layout, "it has no file 'oci-layout'")
    version = oci.decode(read_limited(layout, marker, _MAX_LOCK), oci.Layout, str(layout.path), "oci-layout")
    if version.image_layout_version != oci.LAYOUT_VERSION:
        raise _inconsistent(layout, f"its image layout version is {version.image_layout_version!r}")


def _blobs(layout: Layout) -> dict[Digest, Extent]:
    blobs: dict[Digest, Extent] = {}
    for name in layout.names():
        blob = Digest(f"sha256:{name.removeprefix(BLOBS)}")
        if name.startswith(BLOBS) and digest.is_digest(blob):
            extent = layout.find(name)
            assert extent is not None
            blobs[blob] = extent
    return blobs


def _index(layout: Layout) -> Index:
    listing = layout.find("index.json")
    if listing is None:
        raise _inconsistent(layout, "it has no file 'index.json'")
    data = read_limited(layout, listing, oci.MAX_DOCUMENT)
    index = oci.decode(data, Index, str(layout.path), "index.json")
    if len(index.manifests) != 1 or index.manifests[0].media_type != oci.IMAGE_MANIFEST:
        raise _inconsistent(layout, f"its index.json names {len(index.manifests)} manifests, a bundle's names one")
    return index


def _referrers(layout: Layout, index: Index, annotation: str) -> tuple[Digest, ...]:
    named = tuple(map(Digest, index.annotations.get(annotation, "").split()))
    if len(named) > MAX_REFERRERS or not all(map(digest.is_digest, named)):
        raise _inconsistent(layout, f"its annotation {annotation} names {len(named)} digests, or what is none")
    return named


def _runtime_manifest(layout: Layout, image: ImageManifest) -> Descriptor:
    own = [layer for layer in image.layers if layer.media_type == oci.RUNTIME_MANIFEST]
    if image.artifact_type != oci.ARTIFACT or len(own) != 1:
        raise _inconsistent(layout, "it is an OCI image layout, but of something else: it has no runtime manifest")
    return own[0]


def _document(layout: Layout, blobs: dict[Digest, Extent], descriptor: Descriptor) -> bytes:
    _check_descriptors(layout, blobs, (descriptor,))
    data = read_limited(layout, blobs[descriptor.digest], oci.MAX_DOCUMENT)
    if digest.of_bytes(data) != descriptor.digest:
        raise broken_blob(layout.path, descriptor.digest)
    return data


def _check_descriptors(layout: Layout, blobs: dict[Digest, Extent], descriptors: tuple[Descriptor, ...]) -> None:
    for descriptor in descriptors:
        found = blobs.get(descriptor.digest)
        if found is None:
            raise _inconsistent(layout, f"its blob {descriptor.digest} is missing")
        if found.size != descriptor.size:
            raise TrustError(
                f"{layout.path}: the blob {descriptor.digest} has {found.size} bytes",
                expected=f"{descriptor.size} bytes",
                advice="copy the bundle again; do not use it as it is",
            )


def _check_references(layout: Layout, manifest: Manifest, layers: dict[Digest, int]) -> None:
    for blob, size in manifest.blobs().items():
        if layers.get(blob) != size:
            raise _inconsistent(
                layout, f"its manifest names the blob {blob} of {size} bytes, which is none of its layers"
            )


def _inconsistent(layout: Layout, why: str) -> InputError:
    return InputError(
        f"{layout.path}: not a bundle: {why}", expected="a bundle that edgepack build made", advice="build it again"
    )
