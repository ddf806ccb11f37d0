"""Status, rollback, check and enrol."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import structs

from edgepack import catalog, record
from edgepack.delivery import desired
from edgepack.delivery.desired import Desired
from edgepack.delivery.parallel import each
from edgepack.delivery.pushing import FACTS_SECONDS, who
from edgepack.delivery.results import (
    CheckResult,
    Failure,
    ReleaseStatus,
    RollbackResult,
    TargetStatus,
    failure,
)
from edgepack.errors import EdgepackError, InputError, TrustError
from edgepack.ports import Progress
from edgepack.protocol import (
    Empty,
    Facts,
    FactsRequest,
    InstalledRelease,
    RollbackReply,
    RollbackRequest,
    StatusReply,
    TrustFacts,
    TrustRequest,
)
from edgepack.remote import Bastions, Session, connect, fingerprint
from edgepack.sshsig import PublicKey
from edgepack.target import Target

R = TypeVar("R")
_STATUS_SECONDS = 300.0
_SWITCH_SECONDS = 240.0


def status(targets: Sequence[Target], progress: Progress) -> tuple[TargetStatus, ...]:
    """What each target runs, every file hashed there now, against what was last pushed to it."""

    def one(target: Target, session: Session) -> TargetStatus:
        reply = session.call("status", Empty(), StatusReply, _STATUS_SECONDS)
        wanted = desired.read(target.name)
        names = sorted({release.name for release in reply.releases} | set(wanted))
        releases = tuple(_release(name, reply.releases, wanted.get(name)) for name in names)
        return TargetStatus(target=target.name, reachable=True, releases=releases, log_intact=reply.log_intact)

    def broken(target: Target, what: Failure) -> TargetStatus:
        return TargetStatus(target=target.name, reachable=False, reason=str(what), error=what)

    return _ask(targets, "asking", one, broken, progress)


def rollback(targets: Sequence[Target], name: str, progress: Progress) -> tuple[RollbackResult, ...]:
    """Activate, on each target, the release of `name` that was active before."""

    def one(target: Target, session: Session) -> RollbackResult:
        facts = session.call("facts", FactsRequest(), Facts, FACTS_SECONDS)
        active = next((r.digest for r in facts.releases if r.name == name and r.active), "")
        request = RollbackRequest(name=name, leave=active, restart=target.restart, health=target.health, who=who())
        reply = session.call("rollback", request, RollbackReply, _SWITCH_SECONDS)
        version = next((r.version for r in facts.releases if (r.name, r.digest) == (name, reply.release)), "")
        desired.write(target.name, name, Desired(version, reply.release))
        return RollbackResult(
            target=target.name, outcome=reply.outcome, release=reply.release, left=reply.left, reason=reply.reason
        )

    def broken(target: Target, what: Failure) -> RollbackResult:
        return RollbackResult(target=target.name, outcome="failed", reason=str(what), error=what)

    return _ask(targets, f"rolling {name} back", one, broken, progress)


def check(targets: Sequence[Target], progress: Progress) -> tuple[CheckResult, ...]:
    """What each target says of itself now, its own runtimes included, and whether it is what its profile says."""

    def one(target: Target, session: Session) -> CheckResult:
        facts = session.call("facts", FactsRequest(probe_system_runtimes=True), Facts, FACTS_SECONDS * 4)
        (own,) = catalog.load_profiles((target.profile,))
        machine = own.profile.device.machine
        if facts.machine == machine or target.board == "loopback":
            return CheckResult(target=target.name, facts=facts)
        error = InputError(
            f"target {target.name!r} says it is {facts.machine}, its profile {own.name} is for {machine}",
            advice="correct `profile` (or `host`) in the inventory",
        )
        return CheckResult(target=target.name, facts=facts, reason=str(failure(error)), error=failure(error))

    def broken(target: Target, what: Failure) -> CheckResult:
        return CheckResult(target=target.name, reason=str(what), error=what)

    return _ask(targets, "checking", one, broken, progress)


def enrol(target: Target, expected: str = "") -> str:
    """The host key that a target shows now, as `SHA256:…`. Raises TrustError where it is not the expected one, BoardError."""
    found = fingerprint(target)
    if expected and expected.rstrip("=") != found:
        raise TrustError(
            f"target {target.name!r} shows the host key {found}",
            expected=expected,
            advice="compare with what the board itself says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub",
        )
    return found


def entrust(target: Target, host_key: str, keys: Sequence[PublicKey], revoked: Sequence[str]) -> TrustFacts:
    """Tell a board, by the host key that was just enrolled, whose signatures to trust, and which target it is.

    revoked: fingerprints that it trusts never again. Raises TrustError where its administrator keeps its trust, BoardError.
    """
    request = TrustRequest(
        device=target.name,
        labels=tuple(f"{key}={value}" for key, value in sorted(target.labels.items())),
        keys=tuple(key.line for key in keys),
        revoke=tuple(revoked),
        who=who(),
    )
    with Bastions() as bastions, connect(structs.replace(target, host_key=host_key), bastions=bastions) as session:
        return session.call("trust", request, TrustFacts, FACTS_SECONDS)


def _ask(
    targets: Sequence[Target],
    title: str,
    one: Callable[[Target, Session], R],
    broken: Callable[[Target, Failure], R],
    progress: Progress,
) -> tuple[R, ...]:
    with Bastions() as bastions:

        def job(target: Target, own: Progress) -> R:
            try:
                with own.step(title), connect(target, bastions=bastions) as session:
                    return one(target, session)
            except EdgepackError as error:
                return broken(target, failure(error))

        return each(targets, f"{title}, {len(targets)} targets", job, progress)


def _release(name: str, found: Sequence[InstalledRelease], wanted: Desired | None) -> ReleaseStatus:
    mine = [release for release in found if release.name == name]
    active = next((release for release in mine if release.active), None)
    kept = tuple(release.version for release in mine if not release.active)
    goal = wanted.digest if wanted else ""
    if active is None:
        version = wanted.version if wanted else ""
        return ReleaseStatus(
            name=name, version=version, digest="", active=False, verified=None, desired=goal, confirmed=False, kept=kept
        )
    return ReleaseStatus(
        name=name,
        version=active.version,
        digest=active.digest,
        active=True,
        verified=active.verified,
        desired=goal,
        confirmed=active.confirmed,
        variant=active.default,
        assurance=active.assurance,
        key=active.key,
        checked_by=active.checked_by,
        expires=active.expires,
        expired=bool(active.expires) and time.time() > record.seconds(active.expires),
        kept=kept,
    )
