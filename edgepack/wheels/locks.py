"""Which wheels run a runtime on a board: from the locks shipped with edgepack, those found before, or found now."""

from __future__ import annotations

from pathlib import Path

from edgepack import digest, files, lock
from edgepack.errors import BugError, InputError
from edgepack.home import home, shipped
from edgepack.lock import Platform, RuntimeLock
from edgepack.ports import Progress
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.wheels.resolve import resolve


def lock_for(runtime: RuntimeName, wanted: RuntimeRange, platform: Platform, progress: Progress) -> RuntimeLock:
    """The exact wheels that run `runtime` on `platform`, and where that is known from is told to `progress`.

    Raises InputError where no version fits or no wheels exist for such a C library, BoardError where none is known and the
    index cannot be reached, BugError where the board's system provides the runtime.
    """
    if wanted.provider == "system":
        raise BugError(f"{runtime} comes with the board's system: there is nothing to lock")
    if platform.libc not in ("glibc", "musl") or len(lock.version_tuple(platform.libc_version)) < 2:
        raise InputError(
            f"there are no wheels of {runtime} for {platform.machine} with the C library {platform.libc} {platform.libc_version}",
            expected="glibc or musl, with its version",
            advice=f"let the board's system provide it: runtimes.{runtime} with provider = 'system' in the profile",
        )
    fitting = [known for known in shipped_locks() if _serves(known, runtime, wanted, platform)]
    if fitting:
        best = max(fitting, key=lambda known: (lock.version_tuple(known.version), known.digest()))
        return _told(best, platform, "locked by edgepack", progress)
    kept = _kept_place(runtime, wanted, platform)
    if kept.is_file():
        known = lock.decode(kept.read_bytes(), str(kept))
        if _serves(known, runtime, wanted, platform):
            return _told(known, platform, f"resolved earlier, {kept}", progress)
    found = resolve(runtime, wanted, platform, progress)
    write_lock(found, kept)
    return _told(found, platform, "resolved now from the configured index", progress)


def shipped_locks() -> tuple[RuntimeLock, ...]:
    """The locks shipped with edgepack."""
    paths = sorted((shipped("profiles") / "locks").glob("*.json"))
    return tuple(lock.decode(path.read_bytes(), str(path)) for path in paths)


def known_locks() -> tuple[RuntimeLock, ...]:
    """The locks shipped with edgepack, and those that were resolved on this host."""
    kept = sorted((home() / "locks").glob("*.json"))
    return (*shipped_locks(), *(lock.decode(path.read_bytes(), str(path)) for path in kept))


def write_lock(found: RuntimeLock, path: Path) -> None:
    """Write a lock as canonical JSON, whole or not at all."""
    try:
        files.replace(path, digest.canonical_json(found))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}", advice="set EDGEPACK_HOME to a folder of yours"
        ) from None


def _serves(known: RuntimeLock, runtime: RuntimeName, wanted: RuntimeRange, platform: Platform) -> bool:
    return known.runtime == runtime and wanted.allows(known.version) and known.fits(platform)


def _kept_place(runtime: RuntimeName, wanted: RuntimeRange, platform: Platform) -> Path:
    key = digest.hex_of(digest.of_value(wanted))[:8]
    return home() / "locks" / f"{runtime}-{platform}-{key}.json"


def _told(found: RuntimeLock, platform: Platform, origin: str, progress: Progress) -> RuntimeLock:
    system = f", with {', '.join(found.system)} from the board's system" if found.system else ""
    progress.note(f"{found.runtime} {found.version} for {platform}{system}: {origin}")
    return found
