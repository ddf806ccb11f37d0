"""Bundles: packing, opening and verifying them, and the golden samples inside."""

from edgepack.bundle.golden import read_golden, write_golden
from edgepack.bundle.packing import pack
from edgepack.bundle.reading import Bundle, open_bundle

__all__ = ["Bundle", "open_bundle", "pack", "read_golden", "write_golden"]
