"""The papers of a bundle, as they are packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from edgepack import digest
from edgepack.lock import RuntimeLock
from edgepack.manifest import DocumentRecord, Manifest
from edgepack.papers.card import CARD, render_card
from edgepack.papers.provenance import STATEMENT, statement
from edgepack.papers.sbom import BILL, bill_of_materials
from edgepack.profile import Profile


class Paper(NamedTuple):
    record: DocumentRecord
    data: bytes


def write(manifest: Manifest, locks: Sequence[RuntimeLock], profile: Profile | None) -> tuple[Paper, ...]:
    """The papers of a manifest that names none yet. The same inputs give the same bytes."""
    return (
        _paper("provenance", STATEMENT, "provenance.intoto.json", statement(manifest)),
        _paper("sbom", BILL, "sbom.cdx.json", bill_of_materials(manifest, locks)),
        _paper("card", CARD, "README.md", render_card(manifest, profile).encode()),
    )


def _paper(kind: str, media_type: str, name: str, data: bytes) -> Paper:
    return Paper(DocumentRecord(kind, media_type, name, digest.of_bytes(data), len(data)), data)
