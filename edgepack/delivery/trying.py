"""A bundle on a board for as long as it is measured: installed and self-tested, never active, gone again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import structs

from edgepack import actions, signing
from edgepack.actions import Activate
from edgepack.delivery.delta.making import Workshop
from edgepack.delivery.parallel import Own
from edgepack.delivery.pushing import FACTS_SECONDS, Job, carry_out, content_of, who, wish_of, with_wheels
from edgepack.delivery.runtimes import Locks, choose
from edgepack.errors import EdgepackError, GateError, InputError
from edgepack.ports import Progress
from edgepack.protocol import Facts, FactsRequest, RemoveReply, RemoveRequest
from edgepack.remote import Bastions, Session, connect
from edgepack.target import Target

if TYPE_CHECKING:
    from edgepack.bundle import Bundle

_REMOVE_SECONDS = 120.0


@contextmanager
def tried(
    bundle: Bundle, target: Target, *, allow_unsigned: bool, bastions: Bastions, progress: Progress
) -> Iterator[dict[str, str]]:
    """Install every variant of a bundle on a board, each with its self-test, and remove the bundle at the end.

    Yields why the board cannot use a variant, by id: it has no runtime for it, or its self-test failed there.
    The bundle's name must be nobody else's: every release of that name is removed from the board, before (a killed run may
    have left one) and after. What applications use there stays what it is; blobs go when the board next collects.
    Raises BoardError, TrustError where the board or this host's user does not take the bundle, InputError for another machine.
    """
    bundle.verify()
    content = content_of(bundle)
    wish = wish_of(target, signing.own_policy(), allow_unsigned, False, ())
    actions.check_bundle(content, wish)
    quiet = Own(
        target.name, progress, alone=False
    )  # one line for all that follows, not one for each step of each variant
    job = Job(target, bundle, content, wish, Locks(bundle.locks), Workshop(), quiet)
    with connect(target, bastions=bastions) as session:
        _remove(session, bundle.manifest.name)
    try:
        count = len(bundle.manifest.variants)
        with progress.step(f"put {count} variants on {target.name}"), connect(target, bastions=bastions) as session:
            refused = {record.id: _install(job, session, record.id) for record in bundle.manifest.variants}
        yield {id: reason for id, reason in refused.items() if reason}
    except BaseException:
        try:
            _leave(target, bundle.manifest.name, bastions)
        except EdgepackError as error:  # what went wrong first is what the user must see
            progress.warn(f"{target.name}: {bundle.manifest.name} is still there: {error.what}")
        raise
    _leave(target, bundle.manifest.name, bastions)


def _leave(target: Target, name: str, bastions: Bastions) -> None:
    with connect(target, bastions=bastions) as session:
        _remove(session, name)


def _remove(session: Session, name: str) -> None:
    session.call("remove", RemoveRequest(name=name, who=who()), RemoveReply, _REMOVE_SECONDS)


def _install(job: Job, session: Session, id: str) -> str:
    """One variant, all that a push does but its last step. Why the board cannot use it, empty where it can."""
    manifest = job.content.manifest
    alone = structs.replace(manifest, variants=(manifest.variant(id),), default=id)
    asked = FactsRequest(
        blobs=tuple(actions.blobs(job.content)),
        name=manifest.name,
        probe_system_runtimes=any(wanted.provider == "system" for wanted in manifest.runtimes.values()),
    )
    facts = session.call("facts", asked, Facts, FACTS_SECONDS)
    actions.check_board(job.content, job.wish, facts)
    try:
        chosen, providers = choose(alone, (), facts, job.locks, job.progress)
    except InputError as error:
        return error.what
    facts = with_wheels(session, facts, providers)
    plan = actions.plan_push(job.content, job.wish, facts, chosen, providers)
    try:
        carry_out([action for action in plan if not isinstance(action, Activate)], job, session, facts, providers)
    except GateError as error:
        return error.what
    return ""
