"""A key that opens a board for deliveries alone: no shell, no files, no forwarding."""

from __future__ import annotations

from edgepack import catalog, wheels
from edgepack.delivery.pushing import FACTS_SECONDS, who
from edgepack.protocol import AuthorizeReply, AuthorizeRequest
from edgepack.remote import connect
from edgepack.target import Target


def authorize(target: Target, key: str, *, write: bool, signed_agents: bool = False) -> AuthorizeReply:
    """Let the owner of a public key deliver to a target, and nothing else; with a login that may do more.

    key: the line of a .pub file; write: into authorized_keys there, else only the line is told
    signed_agents: whether it may bring agents of other versions if a key that the target trusts signed them

    What the target's inventory entry says of health and restart may be run by that key, and the wheels of the locks known
    here installed.
    Raises BoardError, TrustError (this login is itself restricted), InputError (no key, or one that already opens more).
    """
    (own,) = catalog.load_profiles((target.profile,))
    request = AuthorizeRequest(
        public_key=key.strip(),
        locks=tuple(one.digest() for one in wheels.known_locks() if one.runtime in own.profile.runtimes),
        hooks=tuple(command for command in (target.restart, target.health) if command),
        write=write,
        who=who(),
        signed_agents=signed_agents,
    )
    with connect(target) as session:
        return session.call("authorize", request, AuthorizeReply, FACTS_SECONDS)
