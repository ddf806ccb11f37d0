"""Which variant a board gets, and where its runtime comes from: the board itself, the bundle's locks, or one found now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from edgepack import actions, wheels
from edgepack.actions import Lacking, Provider, ToResolve
from edgepack.errors import InputError
from edgepack.lock import RuntimeLock
from edgepack.manifest import Manifest, VariantRecord
from edgepack.ports import Progress
from edgepack.profile import RuntimeName
from edgepack.protocol import Facts

Opener = Callable[[], BinaryIO]


class Locks:
    """The bundle's runtime locks, and those found for boards that none of them fits: each once, whoever asks first."""

    def __init__(self, packed: Sequence[RuntimeLock]) -> None:
        self.packed = tuple(packed)
        self._one_at_a_time = threading.Lock()

    def resolve(self, asked: ToResolve, progress: Progress) -> RuntimeLock:
        """Raises InputError where no wheels fit, BoardError where the package index cannot be reached."""
        with self._one_at_a_time:
            progress.note(f"no runtime lock in the bundle fits {asked.platform}: looking for {asked.runtime}")
            return wheels.lock_for(asked.runtime, asked.wanted, asked.platform, progress)

    def fetch(self, lock: RuntimeLock, progress: Progress) -> dict[str, Opener]:
        """How to open each of a lock's wheels, by digest. Raises BoardError, TrustError as `wheels.fetch` does."""
        with self._one_at_a_time:
            paths = wheels.fetch(lock, progress)
        return {wheel.digest: _opener(path) for wheel, path in zip(lock.wheels, paths, strict=True)}


def choose(
    manifest: Manifest, others: Sequence[str], facts: Facts, locks: Locks, progress: Progress
) -> tuple[VariantRecord, dict[RuntimeName, Provider]]:
    """The variant that becomes active, the default if the board can have its runtime, and the runtimes to provide.

    others: variants to install beside it. Raises InputError where no variant can run there, or one of `others` cannot.
    """
    known: dict[RuntimeName, Provider | Lacking] = {}

    def provider(record: VariantRecord) -> Provider | Lacking:
        if record.runtime not in known:
            known[record.runtime] = _provider(record, manifest, facts, locks, progress)
        return known[record.runtime]

    refused: list[str] = []
    for record in actions.candidates(manifest):
        found = provider(record)
        if not isinstance(found, Lacking):
            break
        if found.reason not in refused:
            refused.append(found.reason)
    else:
        raise InputError(
            f"no variant of {manifest.name} {manifest.version} can run on this board ({facts.platform()}): "
            + "; ".join(refused),
            expected="a runtime that the board has, or wheels for it",
            advice="edgepack target check shows what the board is; " + _advice(manifest),
        )
    if refused:
        progress.warn(f"{record.id} instead of the default {manifest.default}: {'; '.join(refused)}")
    providers = {record.runtime: found}
    for other in (manifest.variant(id) for id in others):
        beside = provider(other)
        if isinstance(beside, Lacking):
            raise InputError(f"{other.id} cannot run on this board: {beside.reason}")
        providers[other.runtime] = beside
    return record, providers


def _advice(manifest: Manifest) -> str:
    own = [
        f"{runtime} {wanted.version}" for runtime, wanted in manifest.runtimes.items() if wanted.provider == "system"
    ]
    if own:
        return (
            f"install {' or '.join(own)} with the board's own package manager (Termux: pkg install python-onnxruntime)"
        )
    return "build for a profile whose runtimes exist there"


def _provider(
    record: VariantRecord, manifest: Manifest, facts: Facts, locks: Locks, progress: Progress
) -> Provider | Lacking:
    found = actions.provision(record, manifest, locks.packed, facts)
    if not isinstance(found, ToResolve):
        return found
    try:
        return actions.FromLock(locks.resolve(found, progress))
    except InputError as error:
        return Lacking(error.what)


def _opener(path: Path) -> Opener:
    return lambda: path.open("rb")
