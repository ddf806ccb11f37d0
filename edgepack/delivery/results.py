"""What came of a verb on one target."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Struct

from edgepack.errors import EdgepackError
from edgepack.protocol import Assurance, Facts


class Failure(Struct, frozen=True):
    """An error on one target. kind: the class in `edgepack.errors`."""

    kind: str
    exit_code: int
    what: str
    expected: str = ""
    advice: str = ""

    def __str__(self) -> str:
        expected = f"; expected: {self.expected}" if self.expected else ""
        return f"{self.what}{expected}{'; try: ' + self.advice if self.advice else ''}"


def failure(error: EdgepackError) -> Failure:
    return Failure(type(error).__name__, error.exit_code, error.what, error.expected, error.advice)


class PushResult(Struct, frozen=True, kw_only=True):
    """release, previous: digests of bundles; bytes_sent: over the link; variant: what `current/NAME` means on that board
    assurance, key: how the board knows the release, and by whose signature; empty where it did not come to that

    outcome `planned` is a dry run's; `rolled-back` means that the health check failed and the release before is active again
    """

    target: str
    outcome: Literal["activated", "unchanged", "rolled-back", "failed", "planned"]
    release: str
    previous: str = ""
    variant: str = ""
    bytes_sent: int = 0
    seconds: float = 0.0
    assurance: Assurance | Literal[""] = ""
    key: str = ""
    reason: str = ""
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        return 4 if self.outcome == "rolled-back" else 0

    def document(self) -> dict[str, Any]:
        return _document(self)


class RollbackResult(Struct, frozen=True, kw_only=True):
    """release: what is active now; left: what was active before"""

    target: str
    outcome: Literal["rolled-back", "unchanged", "failed"]
    release: str = ""
    left: str = ""
    reason: str = ""
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0

    def document(self) -> dict[str, Any]:
        return _document(self)


class ReleaseStatus(Struct, frozen=True, kw_only=True):
    """One name on a board. digest: of the active release, empty where there is none; desired: what was pushed there last

    verified: every file of it hashed on the board just now; confirmed: its health was checked after it was activated
    assurance, key, checked_by: what the check of its signature came to on the board, by which key, by what
    expires: until when that signature may be used to install it, empty for ever; expired: that is over
    """

    name: str
    version: str
    digest: str
    active: bool
    verified: bool | None
    desired: str
    confirmed: bool = True
    variant: str = ""
    assurance: Assurance = "unsigned"
    key: str = ""
    checked_by: str = ""
    expires: str = ""
    expired: bool = False
    kept: tuple[str, ...] = ()


class TargetStatus(Struct, frozen=True, kw_only=True):
    """log_intact: the board's own record of what was done there was not changed"""

    target: str
    reachable: bool
    releases: tuple[ReleaseStatus, ...] = ()
    log_intact: bool | None = None
    reason: str = ""
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        if self.error is not None:
            return self.error.exit_code
        return 6 if any(release.verified is False for release in self.releases) else 0

    def document(self) -> dict[str, Any]:
        return _document(self)


class CheckResult(Struct, frozen=True, kw_only=True):
    target: str
    facts: Facts | None = None
    reason: str = ""
    error: Failure | None = None

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0

    def document(self) -> dict[str, Any]:
        return _document(self)


def _document(result: Struct) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(result)
    return plain
