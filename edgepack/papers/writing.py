"""The papers of a bundle, as they are packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgepack import digest
from edgepack.lock import RuntimeLock
from edgepack.manifest import DocumentRecord, Manifest
from edgepack.papers.card import CARD, render_card
from edgepack.papers.layers import LAYERS, render_layers
from edgepack.papers.provenance import STATEMENT, statement
from edgepack.papers.sbom import BILL, bill_of_materials
from edgepack.profile import Profile
from edgepack.variant import Quantizing


class Paper(NamedTuple):
    record: DocumentRecord
    data: bytes


def write(
    manifest: Manifest,
    locks: Sequence[RuntimeLock],
    profile: Profile | None,
    quantized: Sequence[Quantizing] = (),
) -> tuple[Paper, ...]:
    """The papers of a manifest that names none yet. The same inputs give the same bytes.

    quantized: of the variants that were quantized here
    """
    layers = (_paper("layers", LAYERS, "layers.json", render_layers(quantized)),) if quantized else ()
    return (
        _paper("provenance", STATEMENT, "provenance.intoto.json", statement(manifest)),
        _paper("sbom", BILL, "sbom.cdx.json", bill_of_materials(manifest, locks)),
        _paper("card", CARD, "README.md", render_card(manifest, profile).encode()),
        *layers,
    )


def _paper(kind: str, media_type: str, name: str, data: bytes) -> Paper:
    return Paper(DocumentRecord(kind, media_type, name, digest.of_bytes(data), len(data)), data)
