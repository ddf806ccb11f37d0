"""A runtime lock: the exact wheels that run a variant on a board's Python, machine and C library."""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.profile import RuntimeName

SCHEMA = "edgepack.lock/1"
_WHEEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+!-]{0,200}\.whl")


class Platform(Struct, frozen=True):
    """What decides which wheels fit. python: `3.11`; machine: `aarch64`; libc: `glibc` or `musl`; libc_version: `2.36`."""

    python: str
    machine: str
    libc: str
    libc_version: str

    def __str__(self) -> str:
        return f"cp{self.python.replace('.', '')}-{self.machine}-{self.libc}{self.libc_version}"


class Wheel(Struct, frozen=True):
    name: str
    version: str
    filename: str
    digest: Digest
    size: int


class RuntimeLock(Struct, frozen=True, kw_only=True):
    """needs_glibc: the highest GLIBC symbol version that the wheels' libraries really need, whatever their tags say

    system: requirements that the board's own packages must meet (`numpy<2`), where no wheel exists
    """

    schema: str = SCHEMA
    runtime: RuntimeName
    version: str
    python: str
    machine: str
    libc: str
    needs_glibc: str
    wheels: tuple[Wheel, ...]
    system: tuple[str, ...] = ()

    def digest(self) -> Digest:
        return digest.of_value(self)

    def fits(self, platform: Platform) -> bool:
        same = (self.python, self.machine, self.libc) == (platform.python, platform.machine, platform.libc)
        return same and version_tuple(self.needs_glibc) <= version_tuple(platform.libc_version)


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def decode(data: bytes, file: str) -> RuntimeLock:
    """Parse a lock. Raises InputError naming `file`: another schema, a missing or wrong field, an evil file name."""
    try:
        lock = msgspec.json.decode(data, type=RuntimeLock)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: not a runtime lock: {error}") from None
    if lock.schema != SCHEMA:
        raise InputError(
            f"{file}: lock schema {lock.schema!r} is not known",
            expected=SCHEMA,
            advice="update edgepack if the lock was written by a newer one",
        )
    for wheel in lock.wheels:
        if not _WHEEL_NAME.fullmatch(wheel.filename) or not digest.is_digest(wheel.digest) or wheel.size < 0:
            raise InputError(f"{file}: the wheel {wheel.filename!r} cannot be a file, or its digest or size is none")
    return lock
