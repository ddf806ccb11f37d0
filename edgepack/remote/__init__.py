"""Boards over SSH: connect, ask the agent, stream blobs. Nothing but SSH and Python is needed on the other side."""

from edgepack.remote.connection import Bastions, connect, fingerprint
from edgepack.remote.pyz import agent_pyz
from edgepack.remote.session import Outgoing, Session

__all__ = ["Bastions", "Outgoing", "Session", "agent_pyz", "connect", "fingerprint"]
