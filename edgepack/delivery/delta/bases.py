"""Which blob of a release that the board has each new blob is compared with. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgepack.actions import Content
from edgepack.digest import Digest
from edgepack.manifest import Manifest, VariantRecord
from edgepack.protocol import InstalledRelease


def releases(content: Content, found: Sequence[InstalledRelease]) -> tuple[InstalledRelease, ...]:
    """The board's releases of the same name, the active one first, then the latest version."""
    same = [one for one in found if one.name == content.manifest.name and one.digest != content.digest]
    return tuple(sorted(same, key=lambda one: (one.active, one.previous, one.version), reverse=True))


def counterparts(new: Manifest, old: Manifest, installed: Sequence[str]) -> dict[Digest, Digest]:
    """For blobs of the new release those with the same role in the old one that are on the board."""
    there = [record for record in old.variants if record.id in installed]
    pairs: dict[Digest, Digest] = {}
    for record in new.variants:
        for before in _ranked(record, there):
            pairs.setdefault(record.digest, before.digest)
            pairs.setdefault(record.golden, before.golden)
            break
    return {blob: before for blob, before in pairs.items() if blob != before}


def _ranked(record: VariantRecord, there: Sequence[VariantRecord]) -> Iterator[VariantRecord]:
    """The same variant, then the same kind of numbers, pruned alike. Another kind has no bytes in common."""
    yield from (one for one in there if one.id == record.id)
    alike = (record.format, record.precision, record.sparsity)
    yield from (one for one in there if (one.format, one.precision, one.sparsity) == alike)
