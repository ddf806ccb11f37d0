"""Bundles: packing, opening and verifying them, what they are made of, and the golden samples inside."""

from edgepack.bundle.attestations import attest, envelopes
from edgepack.bundle.contents import (
    Contents,
    Document,
    contents,
    export,
    model_files,
    read_image,
    read_referrer,
    version_of,
)
from edgepack.bundle.golden import read_golden, write_golden
from edgepack.bundle.oci import ARTIFACT, ATTESTATION, IMAGE_MANIFEST, MAX_DOCUMENT, SIGNATURE, SIGNED_BY
from edgepack.bundle.packing import pack
from edgepack.bundle.reading import MAX_REFERRERS, Bundle, open_bundle
from edgepack.bundle.signatures import Statement, attach, statements

__all__ = [
    "ARTIFACT",
    "ATTESTATION",
    "IMAGE_MANIFEST",
    "MAX_DOCUMENT",
    "MAX_REFERRERS",
    "SIGNATURE",
    "SIGNED_BY",
    "Bundle",
    "Contents",
    "Document",
    "Statement",
    "attach",
    "attest",
    "contents",
    "envelopes",
    "export",
    "model_files",
    "open_bundle",
    "pack",
    "read_golden",
    "read_image",
    "read_referrer",
    "statements",
    "version_of",
    "write_golden",
]
