"""Which C library a wheel really needs: read from the libraries inside it, since its tag may be wrong in both directions."""

from __future__ import annotations

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from edgepack.errors import InputError
from edgepack.lock import version_tuple

if TYPE_CHECKING:
    from elftools.elf.elffile import ELFFile

_LIBRARY = re.compile(r"\.so(\.[0-9.]+)?$")
_VERSION = re.compile(r"GLIBC_(?P<version>\d+(\.\d+)+)")
_ELF = b"\x7fELF"
_WEAK = 0x2  # VER_FLG_WEAK: the loader starts without it
_RELATIVE_RELOCATIONS = "GLIBC_ABI_DT_RELR"  # the marker that the loader of 2.36 and later knows


def needs_glibc(wheel: Path) -> str:
    """The highest GLIBC symbol version that any library in the wheel needs, as `2.34`; empty where none needs any.

    Read from `.gnu.version_r`, as the loader reads it (LSB core specification, "Symbol Version Requirements").
    Raises InputError where the file is no wheel.
    """
    found: set[str] = set()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if _LIBRARY.search(name):
                    with archive.open(name) as packed, tempfile.TemporaryFile() as library:
                        shutil.copyfileobj(packed, library)  # a library of 60 MB stays out of memory
                        found |= set(_requirements(library, f"{wheel}: {name}"))
    except zipfile.BadZipFile:
        raise InputError(f"{wheel}: not a wheel", expected="a zip archive") from None
    return max(found, key=version_tuple, default="")


def _requirements(library: BinaryIO, name: str) -> Iterator[str]:
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    library.seek(0)
    if library.read(len(_ELF)) != _ELF:
        return  # a linker script, or a library for another system: nothing that this loader opens
    try:
        yield from _versions(ELFFile(library))
    except ELFError as error:
        raise InputError(f"{name}: a broken library: {error}") from None


def _versions(library: ELFFile) -> Iterator[str]:
    from elftools.elf.gnuversions import GNUVerNeedSection

    sections = [section for section in library.iter_sections() if isinstance(section, GNUVerNeedSection)]
    for section in sections:
        for _, wanted in section.iter_versions():
            for symbol in wanted:
                if symbol["vna_flags"] & _WEAK:
                    continue
                if symbol.name == _RELATIVE_RELOCATIONS:
                    yield "2.36"
                elif match := _VERSION.fullmatch(symbol.name):
                    yield match["version"]
