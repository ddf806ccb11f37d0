"""Bundles: packing, opening and verifying them, what they are made of, and the golden samples inside."""

from edgepack.bundle.contents import (
    Contents,
    Document,
    contents,
    export,
    model_files,
    read_image,
    read_signature,
    version_of,
)
from edgepack.bundle.golden import read_golden, write_golden
from edgepack.bundle.oci import ARTIFACT, IMAGE_MANIFEST, MAX_DOCUMENT, SIGNATURE, SIGNED_BY
from edgepack.bundle.packing import pack
from edgepack.bundle.reading import MAX_SIGNATURES, Bundle, open_bundle
from edgepack.bundle.signatures import Statement, attach, statements

__all__ = [
    "ARTIFACT",
    "IMAGE_MANIFEST",
    "MAX_DOCUMENT",
    "MAX_SIGNATURES",
    "SIGNATURE",
    "SIGNED_BY",
    "Bundle",
    "Contents",
    "Document",
    "Statement",
    "attach",
    "contents",
    "export",
    "model_files",
    "open_bundle",
    "pack",
    "read_golden",
    "read_image",
    "read_signature",
    "statements",
    "version_of",
    "write_golden",
]
