"""What is said of a bundle inside it, for people and for tools that know nothing of edgepack: where it came from (in-toto),
what it is made of (CycloneDX), what it is good for (a model card). Each a pure function of the runtime manifest."""

from edgepack.papers.card import render_card
from edgepack.papers.layers import read_layers
from edgepack.papers.provenance import (
    STATEMENT,
    PublicKey,
    Sealed,
    Sign,
    envelope,
    is_about,
    open_envelope,
    read_envelope,
    statement,
)
from edgepack.papers.sbom import bill_of_materials
from edgepack.papers.writing import Paper, write

__all__ = [
    "STATEMENT",
    "Paper",
    "PublicKey",
    "Sealed",
    "Sign",
    "bill_of_materials",
    "envelope",
    "is_about",
    "open_envelope",
    "read_envelope",
    "read_layers",
    "render_card",
    "statement",
    "write",
]
