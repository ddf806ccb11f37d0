"""Bundles: packing, opening and verifying them, what they are made of, and the golden samples inside."""

from edgepack.bundle.contents import Contents, Document, contents, export, read_image, read_signature
from edgepack.bundle.golden import read_golden, write_golden
from edgepack.bundle.oci import ARTIFACT, IMAGE_MANIFEST, MAX_DOCUMENT, SIGNATURE
from edgepack.bundle.packing import pack
from edgepack.bundle.reading import Bundle, open_bundle

__all__ = [
    "ARTIFACT",
    "IMAGE_MANIFEST",
    "MAX_DOCUMENT",
    "SIGNATURE",
    "Bundle",
    "Contents",
    "Document",
    "contents",
    "export",
    "open_bundle",
    "pack",
    "read_golden",
    "read_image",
    "read_signature",
    "write_golden",
]
