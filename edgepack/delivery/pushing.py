"""Push: facts, then only the actions that are needed, planned at the last moment, done in order."""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, assert_never

from msgspec import structs

from edgepack import actions, catalog, digest, signing
from edgepack.actions import Action, Activate, Content, FromLock, Install, Provide, Provider, Send, Wish
from edgepack.admission import Policy
from edgepack.delivery import desired, sending
from edgepack.delivery.delta.making import Workshop
from edgepack.delivery.desired import Desired
from edgepack.delivery.parallel import each
from edgepack.delivery.results import PushResult, failure
from edgepack.delivery.runtimes import Locks, choose
from edgepack.delivery.sending import Shipment
from edgepack.errors import EdgepackError
from edgepack.ports import Progress
from edgepack.profile import RuntimeName
from edgepack.protocol import ActivateReply, Facts, FactsRequest, InstallReply, RuntimeReply
from edgepack.remote import Bastions, Session, connect
from edgepack.target import Target

if TYPE_CHECKING:
    from edgepack.bundle import Bundle

FACTS_SECONDS = 60.0
_RUNTIME_SECONDS = 900.0
_SWITCH_SECONDS = 240.0


@dataclass(frozen=True)
class Job:
    """One bundle on its way to one target."""

    target: Target
    bundle: Bundle
    content: Content
    wish: Wish
    locks: Locks
    workshop: Workshop
    progress: Progress


@dataclass
class Course:
    """What the actions came to so far."""

    sent: int = 0
    notes: list[str] = field(default_factory=list)
    ready: InstallReply | None = None
    reply: ActivateReply | None = None


def push(
    bundle: Bundle,
    targets: Sequence[Target],
    *,
    allow_unsigned: bool,
    downgrade: bool,
    dry_run: bool = False,
    variants: Sequence[str] = (),
    progress: Progress,
) -> tuple[PushResult, ...]:
    """Install and activate a bundle on every target, each on its own: one that fails stops no other.

    variants: ids to install beside the one that becomes active, to be measured or chosen by an application
    Raises TrustError or InputError for a bundle that is broken, before any target is asked.
    """
    bundle.verify()
    content = content_of(bundle)
    policy = signing.own_policy()
    locks, workshop = Locks(bundle.locks), Workshop()
    with Bastions() as bastions:

        def one(target: Target, own: Progress) -> PushResult:
            start = time.monotonic()
            try:
                wish = wish_of(target, policy, allow_unsigned, downgrade, tuple(variants))
                actions.check_bundle(content, wish)
                with connect(target, bastions=bastions) as session:
                    result = _push(Job(target, bundle, content, wish, locks, workshop, own), session, dry_run)
            except EdgepackError as error:
                what = failure(error)
                result = PushResult(
                    target=target.name, outcome="failed", release=content.digest, reason=str(what), error=what
                )
            result = structs.replace(result, seconds=round(time.monotonic() - start, 3))
            own.note(_line(result, content))
            return result

        return each(targets, f"pushing {content.manifest.name} {content.manifest.version}", one, progress)


def content_of(bundle: Bundle) -> Content:
    """A bundle as far as decisions need it."""
    return Content(
        digest=bundle.digest,
        manifest=bundle.manifest,
        manifest_digest=digest.of_bytes(bundle.manifest_bytes),
        manifest_size=len(bundle.manifest_bytes),
        offers=signing.offers(bundle),
    )


def wish_of(target: Target, policy: Policy, allow_unsigned: bool, downgrade: bool, variants: tuple[str, ...]) -> Wish:
    (own,) = catalog.load_profiles((target.profile,))
    return Wish(
        target=target.name,
        profiles=(own.name, *((own.profile.extends,) if own.profile.extends else ())),
        machine=own.profile.device.machine,
        stand_in=target.board == "loopback",
        allow_unsigned=allow_unsigned,
        downgrade=downgrade,
        variants=variants,
        health=target.health,
        restart=target.restart,
        who=who(),
        labels=target.labels,
        policy=policy,
        clock=int(time.time()),
    )


def who() -> str:
    """For a board's log: who asked."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _push(job: Job, session: Session, dry_run: bool) -> PushResult:
    content, manifest = job.content, job.content.manifest
    asked = FactsRequest(
        blobs=tuple(actions.blobs(content)),
        verify=True,
        name=manifest.name,
        probe_system_runtimes=any(wanted.provider == "system" for wanted in manifest.runtimes.values()),
    )
    facts = session.call("facts", asked, Facts, FACTS_SECONDS)
    result = PushResult(target=job.wish.target, outcome="unchanged", release=content.digest)
    nothing = actions.check_board(content, job.wish, facts)
    if nothing is not None:
        _remember(job, dry_run)
        return structs.replace(result, reason=nothing.reason, **_known(content, facts))
    chosen, providers = choose(manifest, job.wish.variants, facts, job.locks, job.progress)
    facts = with_wheels(session, facts, providers)
    plan = actions.plan_push(content, job.wish, facts, chosen, providers)
    if dry_run:
        reason = "would " + ", ".join(str(action) for action in plan)
        return structs.replace(result, outcome="planned", variant=chosen.id, reason=reason)
    _remember(job, dry_run)
    course = carry_out(plan, job, session, facts, providers)
    assert course.reply and course.ready, "a plan installs, and ends with an activation"
    return structs.replace(
        result,
        outcome=course.reply.outcome,
        previous=course.reply.previous,
        variant=chosen.id,
        bytes_sent=course.sent,
        assurance=course.ready.assurance,
        key=course.ready.key,
        reason="; ".join(note for note in (*course.notes, course.reply.reason) if note),
    )


def carry_out(
    plan: Sequence[Action], job: Job, session: Session, facts: Facts, providers: dict[RuntimeName, Provider]
) -> Course:
    """Do one action after the other. Raises what sending or the board's agent raises, at the first that fails."""
    course = Course()
    for action in plan:
        if isinstance(action, Send):  # it shows a bar of its own, and a terminal one at a time
            sent = sending.send(session, _shipment(job, action, providers, facts))
            course.sent += sent.bytes
            course.notes += sent.notes
            continue
        with job.progress.step(str(action)):
            _act(session, action, course)
    return course


def _shipment(job: Job, action: Send, providers: dict[RuntimeName, Provider], facts: Facts) -> Shipment:
    return Shipment(
        job.target, job.bundle, job.content, action.parts, providers, facts, job.locks, job.workshop, job.progress
    )


def _remember(job: Job, dry_run: bool) -> None:
    manifest = job.content.manifest
    if not dry_run:
        desired.write(job.wish.target, manifest.name, Desired(manifest.version, job.content.digest))


def _known(content: Content, facts: Facts) -> dict[str, str]:
    """assurance and key of the release that is there already."""
    found = next(one for one in facts.releases if one.digest == content.digest and one.active)
    return {"assurance": found.assurance, "key": found.key}


def _trusted(ready: InstallReply) -> str:
    match ready.assurance:
        case "signed":
            return f"signed by {ready.key}, checked there by {ready.checked_by}"
        case "digests-only":
            return f"signed by {ready.key}, whom the board was not told to trust: only digests were checked"
        case "unsigned":
            return "unsigned"
        case _:
            assert_never(ready.assurance)


def with_wheels(session: Session, facts: Facts, providers: dict[RuntimeName, Provider]) -> Facts:
    """The facts with the state of the wheels that this board may need; no question where its runtimes are ready."""
    lacking = [one.lock for one in providers.values() if isinstance(one, FromLock)]
    asked = tuple(wheel.digest for lock in lacking if lock.digest() not in facts.runtimes for wheel in lock.wheels)
    if not asked:
        return facts
    states = session.call("facts", FactsRequest(blobs=asked), Facts, FACTS_SECONDS).blobs
    return structs.replace(facts, blobs=(*facts.blobs, *states))


def _act(session: Session, action: Provide | Install | Activate, course: Course) -> None:
    match action:
        case Provide(request):
            ready = session.call("runtime", request, RuntimeReply, _RUNTIME_SECONDS)
            if ready.state == "installed":
                course.notes.append(f"{request.runtime} {ready.version} was set up")
        case Install(request):
            patience = 60.0 + request.selftest_seconds * len(request.variants)
            course.ready = session.call("install", request, InstallReply, patience)
            course.notes.append(f"self-test passed: {', '.join(test.variant for test in course.ready.selftests)}")
            course.notes.append(_trusted(course.ready))
        case Activate(request):
            course.reply = session.call("activate", request, ActivateReply, _SWITCH_SECONDS)
        case _:
            assert_never(action)


def _line(result: PushResult, content: Content) -> str:
    name = f"{content.manifest.name} {content.manifest.version}"
    effort = f"{result.bytes_sent / 1e6:.2f} MB in {result.seconds:.1f} s"
    match result.outcome:
        case "activated":
            return f"activated {name}, {effort}"
        case "unchanged":
            return f"unchanged: {result.reason}"
        case "planned":
            return result.reason
        case "rolled-back":
            return f"rolled back from {name}: {result.reason}"
        case "failed":
            return f"failed: {result.error.what if result.error else result.reason}"
        case _:
            assert_never(result.outcome)
