"""The runtime manifest: canonical JSON that says what a bundle is, what it needs to run, how to know that it runs right.

Fields that a later edgepack wrote and this one does not know survive a read and a write (after python-tuf).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct, field

from edgepack import digest, documents
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Preprocessing, Signature
from edgepack.names import FileFormat, Precision, check_name, check_version
from edgepack.profile import Budget, RuntimeName, RuntimeRange
from edgepack.recipe import Step
from edgepack.variant import Parity

SCHEMA = "edgepack.manifest/1"
_VARIANT = re.compile(r"[a-z0-9][a-z0-9._-]{0,159}")


class SourceRecord(Struct, frozen=True):
    format: str
    digest: Digest
    frameworks: tuple[tuple[str, str], ...]


class ProfileRecord(Struct, frozen=True):
    name: str
    digest: Digest


class VariantRecord(Struct, frozen=True, kw_only=True):
    """A packed variant. golden: digest of its golden blob; tolerance: per output, absolute, in the output's own units."""

    id: str
    format: FileFormat
    runtime: RuntimeName
    precision: Precision
    sparsity: float
    digest: Digest
    size: int
    score: float | None
    drop: float | None
    parity: Parity
    recipe: tuple[Step, ...]
    golden: Digest
    golden_size: int
    tolerance: tuple[float, ...]


class LockRecord(Struct, frozen=True):
    """A runtime lock packed with the bundle."""

    digest: Digest
    size: int
    runtime: RuntimeName
    python: str
    machine: str


class DocumentRecord(Struct, frozen=True):
    """A paper packed with the bundle, for people and other tools; no board gets it.

    kind: `provenance`, `sbom`, `card`, or what a later edgepack adds; name: as a file
    """

    kind: str
    media_type: str
    name: str
    digest: Digest
    size: int


class Provenance(Struct, frozen=True, omit_defaults=True):
    """The last two count samples; None where none were given, or by an edgepack that did not count."""

    plan: Digest
    calibration: Digest | None
    evaluation: Digest | None
    training: Digest | None
    tools: tuple[tuple[str, str], ...]
    calibration_samples: int | None = None
    evaluation_samples: int | None = None


class Manifest(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """created: RFC 3339, from the source (SOURCE_DATE_EPOCH or its newest file), never from the clock

    unknown: what `decode` met and this version does not know, where it was; no key of the JSON
    """

    schema: str
    name: str
    version: str
    created: str
    profile: ProfileRecord
    source: SourceRecord
    signature: Signature
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    metric: str
    baseline: float | None
    variants: tuple[VariantRecord, ...]
    default: str
    runtimes: dict[RuntimeName, RuntimeRange]
    locks: tuple[LockRecord, ...]
    gates: Budget
    provenance: Provenance
    documents: tuple[DocumentRecord, ...] = ()
    unknown: dict[str, Any] = field(default_factory=dict)

    def variant(self, id: str) -> VariantRecord:
        """The variant `id`. Raises InputError where the bundle holds none of that name."""
        for record in self.variants:
            if record.id == id:
                return record
        raise InputError(
            f"bundle {self.name} {self.version} holds no variant {id!r}",
            expected=", ".join(v.id for v in self.variants),
        )

    def blobs(self) -> dict[Digest, int]:
        """Digest and bytes of every blob that the bundle must hold beside this manifest."""
        blobs = {record.digest: record.size for record in self.variants}
        blobs |= {record.golden: record.golden_size for record in self.variants}
        blobs |= {record.digest: record.size for record in self.locks}
        return blobs | {record.digest: record.size for record in self.documents}

    def encode(self) -> bytes:
        known = msgspec.to_builtins(self)
        return digest.canonical_json(documents.overlay(known, known.pop("unknown", {})))


def decode(data: bytes, file: str) -> Manifest:
    """Parse a manifest. Raises InputError naming `file`: not JSON, another schema, a missing or wrong field, an evil name."""
    try:
        raw = msgspec.json.decode(data)
        if not isinstance(raw, dict):
            raise InputError(f"{file}: the manifest is no JSON object")
        if raw.get("schema") != SCHEMA:
            raise InputError(
                f"{file}: manifest schema {raw.get('schema')!r} is not known",
                expected=SCHEMA,
                advice="update edgepack if the bundle was built by a newer one",
            )
        known, unknown = documents.split(raw, Manifest, besides=("unknown",))
        manifest = msgspec.convert(known, Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: not a manifest: {error}") from None
    _check(manifest, file)
    return msgspec.structs.replace(manifest, unknown=unknown)


def _check(manifest: Manifest, file: str) -> None:
    try:
        check_name(manifest.name)
        check_version(manifest.version)
        check_name(manifest.profile.name, "profile")
        for record in manifest.variants:
            check_variant_id(record.id)
    except InputError as error:
        raise InputError(f"{file}: {error.what}", expected=error.expected) from None
    if len({record.id for record in manifest.variants}) < len(manifest.variants):
        raise InputError(f"{file}: two variants have one name")
    if manifest.default not in {record.id for record in manifest.variants}:
        raise InputError(f"{file}: the default variant {manifest.default!r} is not among the bundle's variants")
    _check_blobs(manifest, file)


def _check_blobs(manifest: Manifest, file: str) -> None:
    named = [(record.digest, record.size) for record in manifest.variants]
    named += [(record.digest, record.size) for record in manifest.locks]
    named += [(record.digest, record.size) for record in manifest.documents]
    named += [(record.golden, record.golden_size) for record in manifest.variants]
    sizes = manifest.blobs()
    for blob, size in named:
        if not digest.is_digest(blob) or size < 0 or sizes[blob] != size:
            raise InputError(f"{file}: {blob[:80]!r} of {size} bytes cannot be a blob")


def check_variant_id(id: str) -> None:
    """A variant's id becomes a file name on a board."""
    if not _VARIANT.fullmatch(id) or ".." in id:
        raise InputError(
            f"variant name {id[:200]!r} cannot be a file name", expected="NAME.PROFILE.PRECISION[-sNN][-qat].FORMAT"
        )


def published_schema() -> bytes:
    """The JSON schema of the manifest (draft 2020-12), as `docs/schema/manifest-1.json` publishes it."""
    (_, components) = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    definitions = {name: _open(definition) for name, definition in components.items()}
    top = definitions.pop("Manifest")
    del top["properties"]["unknown"]
    top["properties"]["schema"] = {"const": SCHEMA}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "edgepack runtime manifest"}
    return (
        msgspec.json.format(msgspec.json.encode({**head, **top, "$defs": definitions}, order="sorted"), indent=2)
        + b"\n"
    )


def _open(definition: dict[str, Any]) -> dict[str, Any]:
    """People's files allow no unknown key; in a manifest a later edgepack may have added some anywhere."""
    return {key: value for key, value in definition.items() if key != "additionalProperties"}
