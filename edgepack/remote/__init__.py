"""Boards over SSH: connect, ask the agent, stream blobs. Nothing but SSH and Python is needed on the other side."""

from edgepack.remote.connection import Bastions, connect, fingerprint
from edgepack.remote.endorsement import (
    AgentRecord,
    Endorsement,
    agent_digest,
    keep_endorsement,
    own_endorsement,
    read_endorsement,
)
from edgepack.remote.pyz import agent_pyz
from edgepack.remote.session import Outgoing, Session

__all__ = [
    "AgentRecord",
    "Bastions",
    "Endorsement",
    "Outgoing",
    "Session",
    "agent_digest",
    "agent_pyz",
    "connect",
    "fingerprint",
    "keep_endorsement",
    "own_endorsement",
    "read_endorsement",
]
