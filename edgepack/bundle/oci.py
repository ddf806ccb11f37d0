"""The words of OCI and ModelPack, and how a runtime manifest becomes an artifact of theirs.

OCI image layout and image manifest: opencontainers/image-spec v1.1. ModelPack: modelpack/model-spec (`docs/spec.md`,
`specs-go/v1/mediatype.go`, `schema/config-schema.json`).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.manifest import Manifest, VariantRecord

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
WEIGHTS = "application/vnd.cncf.model.weight.v1.raw"
WEIGHTS_CONFIG = "application/vnd.cncf.model.weight.config.v1.raw"
DATASET = "application/vnd.cncf.model.dataset.v1.raw"
RUNTIME_MANIFEST = "application/vnd.edgepack.manifest.v1+json"
RUNTIME_LOCK = "application/vnd.edgepack.lock.v1+json"
IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
IMAGE_INDEX = "application/vnd.oci.image.index.v1+json"
SIGNATURE = "application/vnd.edgepack.signature.v1"
SIGNED_BY = "org.edgepack.signature"
"""Annotation of an index: digests of the OCI manifests that sign its bundle, a space between two (docs/adr/0005)."""
ATTESTATION = "application/vnd.in-toto.provenance+dsse"
"""A signed statement of a bundle's origin (in-toto/attestation `spec/v1/envelope.md`): the artifact, and its one layer."""
ATTESTED_BY = "org.edgepack.provenance"
"""Annotation of an index: digests of the OCI manifests that hold such statements, likewise (docs/adr/0023)."""

LAYOUT_VERSION = "1.0.0"
FILEPATH = "org.cncf.model.filepath"
MAX_DOCUMENT = 4 << 20
"""Bytes of any JSON document in a bundle: what registries accept of a manifest (opencontainers/distribution-spec)."""
MAX_BLOB = (8 << 30) - 1
"""Bytes of any blob: what a ustar header can express."""

T = TypeVar("T", bound=Struct)


class Descriptor(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict)


class ImageManifest(Struct, frozen=True, kw_only=True, rename="camel"):
    schema_version: int = 2
    media_type: str = IMAGE_MANIFEST
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] = field(default_factory=dict)


class Referrer(Struct, frozen=True, kw_only=True, rename="camel"):
    """An OCI manifest that says something of another, its subject: a signature of a bundle, a statement of its origin."""

    schema_version: int = 2
    media_type: str = IMAGE_MANIFEST
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor
    annotations: dict[str, str] | UnsetType = UNSET


class Index(Struct, frozen=True, kw_only=True, rename="camel"):
    """manifests: exactly one, so that `skopeo … oci-archive:FILE` needs no name; docs/adr/0005 says where a signature goes"""

    schema_version: int = 2
    media_type: str = IMAGE_INDEX
    manifests: tuple[Descriptor, ...]
    annotations: dict[str, str] = field(default_factory=dict)


class Layout(Struct, frozen=True, rename="camel"):
    image_layout_version: str


class _About(Struct, frozen=True, rename="camel"):
    created_at: str
    name: str
    version: str


class _Technical(Struct, frozen=True):
    format: str
    precision: str


class _Files(Struct, frozen=True, rename="camel"):
    type: str
    diff_ids: tuple[Digest, ...]


class ModelConfig(Struct, frozen=True):
    """ModelPack's config: what a registry shows of a model. Its schema allows no other keys."""

    descriptor: _About
    config: _Technical
    modelfs: _Files


class Artifact(Struct, frozen=True, kw_only=True):
    """The documents of a bundle. made: those that packing adds to the given blobs, by digest."""

    manifest_digest: Digest
    layers: tuple[Descriptor, ...]
    index: bytes
    made: dict[Digest, bytes]


def describe(manifest: Manifest) -> Artifact:
    """The OCI documents around a runtime manifest; a pure function of it, so the same manifest gives the same digest."""
    own = manifest.encode()
    labels = "".join(f"{label}\n" for label in manifest.labels).encode()
    layers = _layers(manifest, own, labels)
    config = digest.canonical_json(_config(manifest, layers))
    annotations = {
        "org.opencontainers.image.title": manifest.name,
        "org.opencontainers.image.version": manifest.version,
        "org.opencontainers.image.created": manifest.created,
    }
    image = digest.canonical_json(
        ImageManifest(
            artifact_type=ARTIFACT,
            config=Descriptor(media_type=CONFIG, digest=digest.of_bytes(config), size=len(config)),
            layers=layers,
            annotations=annotations,
        )
    )
    documents = [own, config, image, *([labels] if labels else [])]
    return Artifact(
        manifest_digest=digest.of_bytes(image),
        layers=layers,
        index=index_of(image, manifest.version),
        made={digest.of_bytes(document): document for document in documents},
    )


def index_of(
    image: bytes, version: str, signatures: tuple[Digest, ...] = (), attestations: tuple[Digest, ...] = ()
) -> bytes:
    """The `index.json` of a bundle. image: its OCI manifest; signatures, attestations: the manifests that refer to it."""
    top = Descriptor(
        media_type=IMAGE_MANIFEST,
        artifact_type=ARTIFACT,
        digest=digest.of_bytes(image),
        size=len(image),
        annotations={"org.opencontainers.image.ref.name": version},
    )
    named = {SIGNED_BY: signatures, ATTESTED_BY: attestations}
    annotations = {name: " ".join(sorted(digests)) for name, digests in named.items() if digests}
    return digest.canonical_json(Index(manifests=(top,), annotations=annotations))


def _layers(manifest: Manifest, own: bytes, labels: bytes) -> tuple[Descriptor, ...]:
    layers = [_layer(RUNTIME_MANIFEST, digest.of_bytes(own), len(own), "manifest.json")]
    layers += [_layer(WEIGHTS, record.digest, record.size, record.id) for record in manifest.variants]
    layers += [_layer(DATASET, record.golden, record.golden_size, _golden_name(record)) for record in manifest.variants]
    if labels:
        layers.append(_layer(WEIGHTS_CONFIG, digest.of_bytes(labels), len(labels), "labels.txt"))
    for lock in manifest.locks:
        name = f"locks/{lock.runtime}-cp{lock.python.replace('.', '')}-{lock.machine}.json"
        layers.append(_layer(RUNTIME_LOCK, lock.digest, lock.size, name))
    layers += [_layer(one.media_type, one.digest, one.size, one.name) for one in manifest.documents]
    first = {layer.digest: layer for layer in reversed(layers)}  # equal golden samples are one blob
    return tuple(first[blob] for blob in dict.fromkeys(layer.digest for layer in layers))


def _golden_name(record: VariantRecord) -> str:
    return f"{record.id}.golden.npz"


def _layer(media_type: str, content: Digest, size: int, name: str) -> Descriptor:
    return Descriptor(media_type=media_type, digest=content, size=size, annotations={FILEPATH: name})


def _config(manifest: Manifest, layers: tuple[Descriptor, ...]) -> ModelConfig:
    default = manifest.variant(manifest.default)
    return ModelConfig(
        _About(manifest.created, manifest.name, manifest.version),
        _Technical(default.format, default.precision),
        _Files("layers", tuple(layer.digest for layer in layers)),
    )


def decode(data: bytes, kind: type[T], file: str, what: str) -> T:
    """One of the documents above. Raises InputError naming `file` and `what` it was to be."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{file}: {what} is broken: {error}", expected="a bundle that edgepack build made", advice="build it again"
        ) from None
