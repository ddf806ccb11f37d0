"""A runtime lock: the exact wheels that run a variant on a board's Python, machine and C library."""

from __future__ import annotations

from msgspec import Struct

from edgepack import digest
from edgepack.digest import Digest
from edgepack.profile import RuntimeName


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
    """needs_glibc: the highest GLIBC symbol version that the wheels' libraries really need, whatever their tags say."""

    schema: str = "edgepack.lock/1"
    runtime: RuntimeName
    version: str
    python: str
    machine: str
    libc: str
    needs_glibc: str
    wheels: tuple[Wheel, ...]

    def digest(self) -> Digest:
        return digest.of_value(self)

    def fits(self, platform: Platform) -> bool:
        same = (self.python, self.machine, self.libc) == (platform.python, platform.machine, platform.libc)
        return same and version_tuple(self.needs_glibc) <= version_tuple(platform.libc_version)


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
