"""Where a bundle came from: an in-toto Statement v1 with a SLSA provenance v1 predicate, and its DSSE envelope.

in-toto/attestation `spec/v1/statement.md`; slsa.dev/spec/v1.0/provenance; secure-systems-lab/dsse `envelope.md`,
`protocol.md`. What the fields of our build type mean is in docs/provenance.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

import msgspec
from msgspec import Struct

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError
from edgepack.manifest import Manifest

STATEMENT = "application/vnd.in-toto+json"
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
BUILD_TYPE = "urn:edgepack:build:1"
_MOST = 4 << 20

Sign = Callable[[bytes], bytes]
"""A raw Ed25519 signature (64 bytes, RFC 8032) of exactly these bytes."""


class PublicKey(Struct, frozen=True):
    """value: 32 bytes, Ed25519; id: how people know it (`SHA256:…`), only a hint in an envelope"""

    id: str
    value: bytes


class _Signature(Struct, frozen=True):
    sig: str
    keyid: str = ""


class _Envelope(Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


def statement(manifest: Manifest, bundle: Digest | None = None) -> bytes:
    """The statement about a bundle's model files, and about the bundle itself where its digest is known (outside of it)."""
    subjects = [_resource(record.id, record.digest) for record in manifest.variants]
    if bundle:
        subjects.insert(0, _resource(f"{manifest.name}-{manifest.version}-{manifest.profile.name}.edgepack", bundle))
    return digest.canonical_json(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subjects,
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": {
                        "name": manifest.name,
                        "version": manifest.version,
                        "profile": manifest.profile.name,
                        "metric": manifest.metric,
                        "preprocessing": manifest.preprocessing,
                    },
                    "internalParameters": {
                        "plan": manifest.provenance.plan,
                        "recipes": {record.id: record.recipe for record in manifest.variants},
                    },
                    "resolvedDependencies": _dependencies(manifest),
                },
                "runDetails": {
                    "builder": {"id": "urn:edgepack", "version": {"edgepack": metadata.version("edgepack")}},
                },
            },
        }
    )


def _dependencies(manifest: Manifest) -> list[dict[str, Any]]:
    provenance = manifest.provenance
    digests = {
        "source": manifest.source.digest,
        "profile": manifest.profile.digest,
        "calibration": provenance.calibration,
        "evaluation": provenance.evaluation,
        "training": provenance.training,
    }
    found = [_resource(name, content) for name, content in digests.items() if content]
    found += [_resource(f"lock/{one.runtime}-py{one.python}-{one.machine}", one.digest) for one in manifest.locks]
    packages = dict((*manifest.source.frameworks, *provenance.tools))
    return [*found, *({"name": name, "uri": f"pkg:pypi/{name}@{packages[name]}"} for name in sorted(packages))]


def _resource(name: str, content: Digest) -> dict[str, Any]:
    """An in-toto ResourceDescriptor."""
    return {"name": name, "digest": {"sha256": digest.hex_of(content)}}


def envelope(payload: bytes, key: PublicKey, sign: Sign) -> bytes:
    """A statement, signed: DSSE over it. Ed25519 is deterministic: the same key and statement give the same bytes."""
    signature = _Signature(_encode(sign(_signed_bytes(STATEMENT, payload))), key.id)
    return digest.canonical_json(_Envelope(_encode(payload), STATEMENT, (signature,)))


class Sealed(Struct, frozen=True):
    """An envelope that was read and not checked. claims: whose signatures its ids say they are, a hint"""

    payload: bytes
    claims: tuple[str, ...]
    signatures: tuple[bytes, ...]

    def signer(self, keys: Iterable[PublicKey]) -> PublicKey | None:
        """The first of `keys` whose signature over the payload is in the envelope."""
        message = _signed_bytes(STATEMENT, self.payload)
        return next((key for key in keys for one in self.signatures if _holds(key, one, message)), None)


def read_envelope(data: bytes, file: str) -> Sealed:
    """Raises InputError naming `file` where it is no envelope of a statement."""
    try:
        if len(data) > _MOST:
            raise ValueError(f"{len(data)} bytes are too many")
        found = msgspec.json.decode(data, type=_Envelope)
        payload = base64.b64decode(found.payload, validate=True)
        signatures = tuple(base64.b64decode(one.sig, validate=True) for one in found.signatures)
    except (msgspec.DecodeError, binascii.Error, ValueError, RecursionError) as error:
        raise InputError(f"{file}: no DSSE envelope: {error}", expected=f"a signed {STATEMENT}") from None
    if found.payload_type != STATEMENT:
        raise InputError(f"{file}: an envelope of {found.payload_type[:80]!r}", expected=STATEMENT)
    return Sealed(payload, tuple(one.keyid[:80] for one in found.signatures), signatures)


def open_envelope(data: bytes, keys: tuple[PublicKey, ...], file: str) -> bytes:
    """The statement in an envelope, if one of `keys` signed it.

    Raises InputError naming `file` where it is no envelope of a statement, TrustError where no trusted key signed it.
    """
    sealed = read_envelope(data, file)
    if sealed.signer(keys) is None:
        ids = ", ".join(sealed.claims) or "nobody"
        raise TrustError(
            f"{file}: signed by {ids}, by no key that is trusted here", expected=", ".join(k.id for k in keys)
        )
    return sealed.payload


def is_about(payload: bytes, bundle: Digest) -> bool:
    """Whether a statement of origin names this bundle among its subjects; what is no statement names none."""
    try:
        found = msgspec.json.decode(payload, type=_Statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return any(one.digest.get("sha256") == digest.hex_of(bundle) for one in found.subject)


class _Subject(Struct, frozen=True):
    digest: dict[str, str]


class _Statement(Struct, frozen=True):
    subject: tuple[_Subject, ...]


def _holds(key: PublicKey, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key.value).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _signed_bytes(kind: str, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
