"""Signed statements of a bundle's origin inside it: each an OCI artifact with one DSSE envelope (docs/adr/0023)."""

from __future__ import annotations

from dataclasses import replace

from edgepack.bundle import oci, referring
from edgepack.bundle.contents import contents, read_referrer
from edgepack.bundle.oci import Referrer
from edgepack.bundle.reading import Bundle
from edgepack.digest import Digest
from edgepack.errors import InputError

_PREDICATE = {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}


def attest(bundle: Bundle, envelope: bytes) -> Bundle:
    """Put a DSSE envelope into a bundle, beside those that it has; the bundle's own bytes and its signatures stay.

    Raises InputError where the bundle cannot be written, TrustError where one of its blobs is broken.
    """
    before = contents(bundle)
    fresh, made = referring.make(oci.ATTESTATION, before.image, {oci.ATTESTATION: envelope}, _PREDICATE)
    kept = tuple(one for one in before.attestations if one.digest != fresh.digest)
    return referring.put(bundle, replace(before, attestations=(*kept, fresh)), made)


def envelopes(bundle: Bundle) -> tuple[tuple[Digest, bytes], ...]:
    """The DSSE envelopes that a bundle holds, by the digest of the artifact; not yet checked.

    Raises TrustError where bytes are not what a digest says, InputError where one is of something else.
    """
    return tuple((one, _envelope(bundle, one)) for one in sorted(bundle.attestations))


def _envelope(bundle: Bundle, manifest: Digest) -> bytes:
    where = f"{bundle.path}: statement of origin {manifest}"
    data = bundle.read_blob(manifest, oci.MAX_DOCUMENT)
    read_referrer(data, oci.ATTESTATION, bundle.digest, where)
    layers = oci.decode(data, Referrer, where, "its OCI manifest").layers
    if [layer.media_type for layer in layers] != [oci.ATTESTATION]:
        raise InputError(f"{where}: it has {len(layers)} layers", expected=f"one {oci.ATTESTATION}")
    return bundle.read_blob(layers[0].digest, oci.MAX_DOCUMENT)
