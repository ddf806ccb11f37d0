"""What the host and the agent say to each other: one typed request and one typed reply a verb, JSON both ways.

`edgepack.device` answers these with the standard library alone; the host decodes its answers strictly against these types.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edgepack.lock import Platform
from edgepack.profile import RuntimeName
from edgepack.protocol.passes import AccuracyReply as AccuracyReply
from edgepack.protocol.passes import AccuracyRequest as AccuracyRequest
from edgepack.protocol.passes import Beat as Beat
from edgepack.protocol.passes import BenchReply as BenchReply
from edgepack.protocol.passes import BenchRequest as BenchRequest
from edgepack.protocol.passes import Candidate as Candidate
from edgepack.protocol.passes import PairReply as PairReply
from edgepack.protocol.passes import PairRequest as PairRequest
from edgepack.protocol.passes import ScenarioReply as ScenarioReply
from edgepack.protocol.passes import ScenarioRequest as ScenarioRequest
from edgepack.protocol.passes import SweepRun as SweepRun
from edgepack.report import Conditions

PROTOCOL = 1
Assurance = Literal["signed", "digests-only", "unsigned"]
"""signed: a key that the board trusts signed the release record; digests-only: there is a signature, but no key to hold it
against, so only the digests were checked; unsigned: nobody signed it"""


class Empty(Struct, frozen=True):
    pass


class InstalledRelease(Struct, frozen=True, kw_only=True):
    """A release on the board.

    digest: the bundle's; confirmed: active, and its health was checked after the switch; previous: `rollback` may return to it
    verified: every file hashed just now (None where not asked); default: the variant that `current/NAME` means
    variants: all that are installed; runtimes: the runtimes that run them, each a lock's digest or `system:RUNTIME`
    assurance, key, checked_by: what the check of its signature came to on the board, by which key, by what
    record: digest of its signed release record, which expires at `expires`; empty for none
    """

    name: str
    version: str
    digest: str
    active: bool
    confirmed: bool = False
    previous: bool = False
    verified: bool | None = None
    default: str = ""
    variants: tuple[str, ...] = ()
    runtimes: dict[RuntimeName, str] = field(default_factory=dict)
    profile: str = ""
    assurance: Assurance = "unsigned"
    key: str = ""
    checked_by: str = ""
    expires: str = ""
    record: str = ""


class BlobState(Struct, frozen=True):
    """bytes: how much of the blob is there; complete: all of it, digest checked when it was received"""

    digest: str
    bytes: int
    complete: bool


class FactsRequest(Struct, frozen=True):
    """blobs: digests whose state is asked; verify: hash the installed releases' files, of all names or only of `name`

    probe_system_runtimes: import each runtime in the board's own Python (seconds on a small board)
    """

    blobs: tuple[str, ...] = ()
    verify: bool = False
    probe_system_runtimes: bool = False
    name: str = ""


class TrustFacts(Struct, frozen=True, kw_only=True):
    """Whom a board trusts. keys, revoked: fingerprints; required: releases must be signed by one of `keys`

    system: its administrator keeps it, where the user that logs in cannot write; allow_unsigned: that administrator's policy
    device, labels: who the board was told that it is; clock, floor: seconds since 1970, and what has passed for sure
    """

    keys: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    required: bool = False
    system: bool = False
    allow_unsigned: bool = False
    device: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    clock: int = 0
    floor: int = 0


class Facts(Struct, frozen=True, kw_only=True):
    """What a target says of itself now.

    highest: by name, the highest version that this board ever switched to; runtimes: the keys of those that are ready
    blobs: those asked for, and whatever has begun to arrive; codecs: of the deltas that its Python can unpack
    """

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
    board: Literal["loopback", "emulated", "machine", ""] = ""
    root: str = ""
    releases: tuple[InstalledRelease, ...] = ()
    highest: dict[str, str] = field(default_factory=dict)
    runtimes: tuple[str, ...] = ()
    system_runtimes: dict[RuntimeName, str] = field(default_factory=dict)
    blobs: tuple[BlobState, ...] = ()
    codecs: tuple[str, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    trust: TrustFacts = field(default_factory=TrustFacts)

    def platform(self) -> Platform:
        """What decides which wheels fit: a 32-bit Python below a 64-bit kernel needs those of the 32-bit machine."""
        machine = {"aarch64": "armv7l", "x86_64": "i686"}.get(self.machine) if self.bits == 32 else None
        return Platform(".".join(self.python.split(".")[:2]), machine or self.machine, self.libc, self.libc_version)


class BlobPart(Struct, frozen=True):
    """A blob that is about to be sent from `offset` on: what is before it arrived earlier.

    makes, makes_size: the blob that a delta turns into; empty for one that is what it is
    """

    digest: str
    size: int
    offset: int = 0
    makes: str = ""
    makes_size: int = 0


class ReceiveRequest(Struct, frozen=True):
    """The bytes of the parts follow this request's line, one after the other."""

    blobs: tuple[BlobPart, ...]


class ReceiveReply(Struct, frozen=True):
    bytes: int


class WheelBlob(Struct, frozen=True):
    filename: str
    digest: str


class RuntimeRequest(Struct, frozen=True, kw_only=True):
    """Make a runtime usable. key: a lock's digest, or `system:RUNTIME`; version: the lock's, or the range that is wanted.

    wheels: blobs that were received; system: requirements that the board's own packages meet
    lock: the lock itself as canonical JSON, from which the board sees that these are its wheels
    """

    key: str
    runtime: RuntimeName
    version: str
    wheels: tuple[WheelBlob, ...] = ()
    system: tuple[str, ...] = ()
    probe_seconds: float = 120.0
    lock: str = ""


class RuntimeReply(Struct, frozen=True):
    state: Literal["installed", "present", "system"]
    version: str


class RuntimeUse(Struct, frozen=True):
    runtime: RuntimeName
    key: str


class SelftestResult(Struct, frozen=True, kw_only=True):
    """worst: for each output the largest difference from the golden samples, in the output's own units"""

    variant: str
    runtime_version: str
    worst: tuple[float, ...]
    samples: int


class InstallRequest(Struct, frozen=True, kw_only=True):
    """release: the bundle's digest; manifest: the digest of its blob; variant: what `current/NAME` will mean

    record, signature: a release record as it was signed, and the armored SSHSIG over it; empty for none
    """

    name: str
    version: str
    release: str
    manifest: str
    variant: str
    variants: tuple[str, ...]
    runtimes: tuple[RuntimeUse, ...]
    record: str = ""
    signature: str = ""
    downgrade: bool = False
    selftest_seconds: float = 120.0
    who: str = ""


class InstallReply(Struct, frozen=True, kw_only=True):
    """assurance, key, checked_by, expires: as in `InstalledRelease`"""

    selftests: tuple[SelftestResult, ...]
    assurance: Assurance = "unsigned"
    key: str = ""
    checked_by: str = ""
    expires: str = ""


class TrustRequest(Struct, frozen=True, kw_only=True):
    """Tell a board whom to trust and who it is. keys: lines of `.pub` files; revoke: fingerprints; labels: `key=value`"""

    device: str
    labels: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    revoke: tuple[str, ...] = ()
    who: str = ""


class AuthorizeRequest(Struct, frozen=True, kw_only=True):
    """Let a key in for deliveries alone. public_key: a line of a `.pub` file; write: into the user's authorized_keys there

    locks: digests of the runtime locks whose wheels it may bring; hooks: the commands that it may have run
    signed_agents: whether it may bring agents that a key signed which the board trusts
    """

    public_key: str
    locks: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    write: bool = True
    who: str = ""
    signed_agents: bool = False


class AuthorizeReply(Struct, frozen=True):
    """line: for authorized_keys"""

    line: str
    written: bool


class SelftestRequest(Struct, frozen=True, kw_only=True):
    """variants: empty for all that are installed"""

    name: str
    release: str
    variants: tuple[str, ...] = ()
    seconds: float = 120.0


class ActivateRequest(Struct, frozen=True, kw_only=True):
    """expected: the release that was active when this was planned (empty: none); another one now is refused

    restart, health: the target's commands; keep: how many releases stay on the board
    """

    name: str
    release: str
    expected: str
    downgrade: bool = False
    restart: str = ""
    health: str = ""
    health_seconds: float = 60.0
    keep: int = 2
    who: str = ""


class ActivateReply(Struct, frozen=True):
    outcome: Literal["activated", "unchanged", "rolled-back"]
    previous: str
    reason: str


class RollbackRequest(Struct, frozen=True, kw_only=True):
    """leave: the release to go back from (empty: whatever is active); where it is not active any more nothing changes"""

    name: str
    leave: str
    restart: str = ""
    health: str = ""
    health_seconds: float = 60.0
    who: str = ""


class RollbackReply(Struct, frozen=True):
    """release: what is active now; left: what was before; reason: why nothing changed, or how the health command failed"""

    outcome: Literal["rolled-back", "unchanged"]
    release: str
    left: str = ""
    reason: str = ""


class StatusReply(Struct, frozen=True):
    """log_intact: every entry of the board's log holds the hash of the one before it"""

    releases: tuple[InstalledRelease, ...]
    log_entries: int
    log_intact: bool


class RemoveRequest(Struct, frozen=True, kw_only=True):
    """release: empty for every release of that name, and its link"""

    name: str
    release: str = ""
    who: str = ""


class RemoveReply(Struct, frozen=True):
    removed: tuple[str, ...]


class AgentError(Struct, frozen=True):
    """A refusal. kind: which of `edgepack.errors` it is."""

    kind: Literal["input", "gate", "board", "trust", "bug"]
    what: str
    expected: str = ""
    advice: str = ""


class Refusal(Struct, frozen=True):
    error: AgentError
