"""What the host and the agent say to each other: one typed request and one typed reply a verb, JSON both ways.

`edgepack.device` answers these with the standard library alone; the host decodes its answers strictly against these types.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edgepack.lock import Platform
from edgepack.profile import RuntimeName
from edgepack.report import BenchProtocol, Conditions, ProcessRun

PROTOCOL = 1


class Empty(Struct, frozen=True):
    pass


class InstalledRelease(Struct, frozen=True, kw_only=True):
    """A release on the board. digest: the bundle's; verified: every file hashed just now (None where not asked)."""

    name: str
    version: str
    digest: str
    active: bool
    previous: bool = False
    verified: bool | None = None
    default: str = ""
    profile: str = ""
    signed: bool = False


class BlobState(Struct, frozen=True):
    """bytes: how much of the blob is there; complete: all of it, digest checked when it was received"""

    digest: str
    bytes: int
    complete: bool


class FactsRequest(Struct, frozen=True):
    """blobs: digests whose state is asked; verify: hash the installed releases' files; systems: probe system runtimes too"""

    blobs: tuple[str, ...] = ()
    verify: bool = False
    probe_system_runtimes: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """What a target says of itself now."""

    protocol: int
    hostname: str
    machine: str
    bits: int
    python: str
    implementation: str
    libc: str
    libc_version: str
    os: str
    kernel: str
    cpu_model: str
    cpu_part: str = ""
    cpu_features: tuple[str, ...] = ()
    cores: int
    memory_kb: int
    disk_free: int
    filesystem: str
    board_model: str = ""
    board: Literal["loopback", "emulated", ""] = ""
    root: str = ""
    releases: tuple[InstalledRelease, ...] = ()
    runtimes: tuple[str, ...] = ()
    system_runtimes: dict[RuntimeName, str] = field(default_factory=dict)
    blobs: tuple[BlobState, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)

    def platform(self) -> Platform:
        return Platform(".".join(self.python.split(".")[:2]), self.machine, self.libc, self.libc_version)


class BenchRequest(Struct, frozen=True, kw_only=True):
    """release: the bundle digest of an installed release; variant: one of its variants, empty for its default"""

    name: str
    release: str
    variant: str
    protocol: BenchProtocol


class BenchReply(Struct, frozen=True, kw_only=True):
    variant: str
    runtime: RuntimeName
    runtime_version: str
    lock: str
    processes: tuple[ProcessRun, ...]
    harness_overhead_ns: int
    before: Conditions
    after: Conditions
