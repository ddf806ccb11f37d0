"""The wheels kept on this machine, by digest: `wheels/sha256/<hex>/<file name>` below edgepack's home."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepack import digest, files
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError
from edgepack.home import home
from edgepack.lock import Platform, RuntimeLock, Wheel
from edgepack.ports import Progress
from edgepack.wheels import pip


def fetch(lock: RuntimeLock, progress: Progress) -> tuple[Path, ...]:
    """The files of a lock's wheels in its order, each digest checked, fetched with pip where they are not kept yet.

    Raises BoardError where the index cannot be reached, TrustError where it offers another file under that name.
    """
    missing = tuple(wheel for wheel in lock.wheels if not _kept(wheel, progress))
    if missing:
        size = sum(wheel.size for wheel in missing) / 1e6
        names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in missing)
        with (
            progress.step(f"fetching {names} for {lock.machine}, Python {lock.python} ({size:.0f} MB)"),
            aside() as folder,
        ):
            pip.download_exactly(missing, _widest(lock), folder)
            for wheel in missing:
                _keep_locked(folder / wheel.filename, wheel)
    return tuple(place(wheel.digest, wheel.filename) for wheel in lock.wheels)


def place(wanted: Digest, filename: str) -> Path:
    return home() / "wheels" / "sha256" / digest.hex_of(wanted) / filename


@contextmanager
def aside() -> Iterator[Path]:
    """An empty folder on the store's own file system, gone afterwards."""
    root = home() / "wheels"
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".part-", dir=root))
    except OSError as error:
        raise InputError(
            f"{root}: cannot be written: {error.strerror}", advice="set EDGEPACK_HOME to a folder of yours"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def keep(file: Path) -> Digest:
    """Move a file into the store, whole or not at all."""
    content = digest.of_file(file)
    target = place(content, file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    files.sync(file)
    file.replace(target)
    return content


def _keep_locked(file: Path, wheel: Wheel) -> None:
    if not file.is_file() or digest.of_file(file) != wheel.digest:
        raise TrustError(
            f"pip fetched another file for {wheel.name} {wheel.version} than the runtime lock names",
            expected=f"{wheel.filename} with {wheel.digest}",
        )
    keep(file)


def _kept(wheel: Wheel, progress: Progress) -> bool:
    file = place(wheel.digest, wheel.filename)
    if not file.is_file():
        return False
    if digest.of_file(file) == wheel.digest:
        return True
    progress.warn(f"{file}: was damaged since it was kept; it is fetched again")
    return False


def _widest(lock: RuntimeLock) -> Platform:
    """The lock names files, not tags: any C library will do to fetch them."""
    return Platform(lock.python, lock.machine, lock.libc, lock.needs_glibc or "2.17")
