"""Wheels are zip files. They are unpacked by name, entry by entry, into one folder and nowhere else."""

from __future__ import annotations

import os
import stat
import zipfile
from typing import Dict, List, NamedTuple, Optional, Sequence

from . import store
from .faults import Fault

MOST_BYTES = 4 << 30
MOST_FILES = 60_000
_CHUNK = 1 << 18
_OWN = ("bin", "lib", "lib64", "include", "pyvenv.cfg", "runtime.json")


class Entry(NamedTuple):
    name: str
    path: str
    size: int
    executable: bool


def unpack(wheels: Sequence[str], packages: str, prefix: str) -> None:
    """Unpack wheels into `packages` (a site-packages folder), their data files into `prefix`.

    Every entry of every wheel is checked before the first is written. Raises Fault for a path that leaves the folder, a
    link, a name twice, sizes that are not true, more than MOST_BYTES or MOST_FILES, or a file that is no wheel.
    """
    plans = {wheel: _plan(wheel, packages, prefix) for wheel in wheels}
    _check_together(plans)
    total = sum(entry.size for plan in plans.values() for entry in plan)
    store.ensure_space(packages, total, "the runtime")
    for wheel, plan in plans.items():
        with zipfile.ZipFile(wheel) as archive:
            for entry in plan:
                _extract(archive, entry, wheel)


def _plan(wheel: str, packages: str, prefix: str) -> List[Entry]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [_entry(info, packages, prefix, wheel) for info in archive.infolist() if not info.is_dir()]
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise _evil(wheel, f"is no zip file: {error}") from None
    return [entry for entry in found if entry is not None]


def _entry(info: zipfile.ZipInfo, packages: str, prefix: str, wheel: str) -> Optional[Entry]:
    """Where an entry goes; None for a wheel's scripts and headers, which a board does not need."""
    name, mode = info.filename, info.external_attr >> 16
    parts = name.split("/")
    evil = name.startswith("/") or "\\" in name or "\0" in info.orig_filename or ":" in parts[0]
    if evil or any(part in ("", ".", "..") for part in parts) or not name.isprintable():
        raise _evil(wheel, f"holds the path {name[:200]!r}")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise _evil(wheel, f"holds {name[:200]!r}, which is no plain file")
    base = packages
    if parts[0].endswith(".data") and len(parts) > 2:
        kind, parts = parts[1], parts[2:]
        if kind not in ("purelib", "platlib", "data"):
            return None
        base = prefix if kind == "data" else packages
    if base == prefix and parts[0] in _OWN:
        raise _evil(wheel, f"holds {name[:200]!r}, which would replace a part of the environment")
    return Entry(name, os.path.join(base, *parts), info.file_size, bool(mode & 0o111))


def _check_together(plans: Dict[str, List[Entry]]) -> None:
    seen: Dict[str, str] = {}
    size = count = 0
    for wheel, plan in plans.items():
        for entry in plan:
            size, count = size + entry.size, count + 1
            if entry.path in seen:
                raise _evil(wheel, f"holds {entry.name!r}, which {os.path.basename(seen[entry.path])} holds too")
            seen[entry.path] = wheel
        if size > MOST_BYTES or count > MOST_FILES:
            raise _evil(wheel, f"brings the runtime to {size} bytes in {count} files")


def _extract(archive: zipfile.ZipFile, entry: Entry, wheel: str) -> None:
    """Write one entry, never more than the size it declared (zipfile checks its CRC)."""
    os.makedirs(os.path.dirname(entry.path), exist_ok=True)
    written = 0
    try:
        with archive.open(entry.name) as source, open(entry.path, "xb") as file:
            while True:
                data = source.read(_CHUNK)
                if not data:
                    break
                written += len(data)
                if written > entry.size:
                    raise _evil(wheel, f"holds {entry.name!r}, which is larger than it says")
                file.write(data)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise _evil(wheel, f"cannot be unpacked: {entry.name!r}: {error}") from None
    if written != entry.size:
        raise _evil(wheel, f"holds {entry.name!r}, which is smaller than it says")
    os.chmod(entry.path, 0o755 if entry.executable else 0o644)


def _evil(wheel: str, what: str) -> Fault:
    return Fault(
        "trust",
        f"the wheel {os.path.basename(wheel)} {what}",
        expected=f"plain files below one folder, at most {MOST_BYTES} bytes in {MOST_FILES} files",
        advice="do not use this wheel; look at where the package index got it from",
    )
