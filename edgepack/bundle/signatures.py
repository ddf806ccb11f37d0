"""Signatures in a bundle: each an OCI artifact whose subject is the bundle, with a release record and an SSHSIG over it.

Signing changes neither the bundle's digest nor any blob that was there (docs/adr/0005).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgepack.bundle import oci, referring
from edgepack.bundle.contents import contents, read_referrer
from edgepack.bundle.oci import Referrer
from edgepack.bundle.reading import Bundle
from edgepack.digest import Digest
from edgepack.errors import InputError

RECORD = "application/vnd.edgepack.release.v1+json"
SSHSIG = "application/vnd.edgepack.sshsig.v1"
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
    read_referrer(data, oci.SIGNATURE, bundle.digest, where)
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
    layers = {RECORD: statement.record, SSHSIG: statement.signature.encode()}
    fresh, made = referring.make(oci.SIGNATURE, before.image, layers)
    kept = tuple(one for one in before.signatures if one.digest != fresh.digest)
    return referring.put(bundle, replace(before, signatures=(*kept, fresh)), made)
