"""The releases of one name, oldest first, each with what it changed against the one before for the same profile."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from edgepack import bundle
from edgepack.digest import Digest
from edgepack.manifest import LockRecord, Manifest
from edgepack.store.keeping import Entry, entries


class Release(Struct, frozen=True, kw_only=True):
    """What people ask of a release. score, size: of its default variant; locks: runtime, its version, Python, machine, digest

    changed: against the release before of the same profile, one line a change; empty for the first
    """

    entry: Entry
    source: Digest
    source_format: str
    metric: str
    baseline: float | None
    default: str
    variants: int
    score: float | None
    drop: float | None
    size: int
    locks: tuple[tuple[str, str, str, str, Digest], ...]
    changed: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        locks = [
            dict(zip(("runtime", "version", "python", "machine", "digest"), one, strict=True)) for one in self.locks
        ]
        return {**msgspec.structs.asdict(self), "entry": self.entry.document(), "locks": locks}


def history(name: str) -> tuple[Release, ...]:
    """Every release of `name` that the store holds, oldest version first. Raises InputError for a bundle that is broken."""
    before: dict[str, Manifest] = {}
    releases = []
    for entry in entries(name):
        opened = bundle.open_bundle(entry.path)
        manifest = opened.manifest
        default = manifest.variant(manifest.default)
        previous = before.get(entry.profile)
        releases.append(
            Release(
                entry=entry,
                source=manifest.source.digest,
                source_format=manifest.source.format,
                metric=manifest.metric,
                baseline=manifest.baseline,
                default=default.id,
                variants=len(manifest.variants),
                score=default.score,
                drop=default.drop,
                size=default.size,
                locks=tuple(
                    (record.runtime, lock.version, lock.python, lock.machine, record.digest)
                    for record, lock in zip(manifest.locks, opened.locks, strict=True)
                ),
                changed=tuple(changes(previous, manifest)) if previous else (),
            )
        )
        before[entry.profile] = manifest
    return tuple(releases)


def changes(before: Manifest, after: Manifest) -> list[str]:
    """What one manifest says that the one before did not, in words. Pure."""
    said = []
    old, new = before.variant(before.default), after.variant(after.default)
    if before.source.digest != after.source.digest:
        said.append("another source model")
    if before.profile.digest != after.profile.digest:
        said.append(f"the profile {after.profile.name} changed")
    if before.signature != after.signature or before.preprocessing != after.preprocessing:
        said.append("other inputs, outputs or preprocessing: applications may have to change")
    if before.labels != after.labels:
        said.append(
            f"{len(before.labels)} → {len(after.labels)} labels"
            if len(before.labels) != len(after.labels)
            else "other labels"
        )
    if (old.precision, old.sparsity, old.format) != (new.precision, new.sparsity, new.format):
        said.append(f"default {_kind(old.id, before)} → {_kind(new.id, after)}")
    if before.metric == after.metric and None not in (old.score, new.score) and old.score != new.score:
        said.append(f"{after.metric} {old.score:.4f} → {new.score:.4f}")
    if old.size != new.size:
        said.append(f"{old.size / 1e3:.1f} → {new.size / 1e3:.1f} KB")
    said += _set_changes("lock", {_lock(one) for one in before.locks}, {_lock(one) for one in after.locks})
    said += _set_changes(
        "tool", set(map("==".join, before.provenance.tools)), set(map("==".join, after.provenance.tools))
    )
    return said or ["nothing that it says of itself but its version" if before.version != after.version else "nothing"]


def _kind(id: str, manifest: Manifest) -> str:
    return id.removeprefix(f"{manifest.name}.{manifest.profile.name}.")


def _lock(record: LockRecord) -> str:
    return f"{record.runtime} py{record.python} {record.machine} {record.digest[7:19]}"


def _set_changes(what: str, before: set[str], after: set[str]) -> list[str]:
    gone, come = sorted(before - after), sorted(after - before)
    return [*(f"no more {what} {one}" for one in gone), *(f"new {what} {one}" for one in come)]
