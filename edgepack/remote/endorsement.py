"""What vouches for an agent: a record that names it, signed. Boards that know a restricted key want it (docs/adr/0024)."""

from __future__ import annotations

import base64
from typing import Literal

import msgspec
from msgspec import Struct

from edgepack import digest, files
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.home import home
from edgepack.remote.pyz import agent_pyz

SCHEMA: Literal["edgepack.agent-record/1"] = "edgepack.agent-record/1"
_MOST = 16 << 10


class AgentRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """agent: digest of its bytes; issued: RFC 3339 in UTC; of two agents a board that knows the later takes no earlier one"""

    schema: Literal["edgepack.agent-record/1"] = SCHEMA
    agent: Digest
    issued: str

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return digest.canonical_json(self)


class Endorsement(Struct, frozen=True, kw_only=True):
    """record: as it was signed; signature: the armored SSHSIG over it"""

    record: str
    signature: str

    def encode(self) -> bytes:
        return digest.canonical_json(self) + b"\n"

    def argument(self) -> str:
        """As it stands on the command line that brings an agent."""
        return base64.b64encode(digest.canonical_json(self)).decode()


def agent_digest() -> Digest:
    """Of the agent that this edgepack brings to boards."""
    return digest.of_bytes(agent_pyz())


def read_endorsement(data: bytes, where: str) -> tuple[Endorsement, AgentRecord]:
    """Parse a file that `edgepack agent sign` wrote. Raises InputError naming `where`; the signature is not checked here."""
    try:
        if len(data) > _MOST:
            raise InputError(f"{where}: {len(data)} bytes are too many", expected="what edgepack agent sign writes")
        found = msgspec.json.decode(data, type=Endorsement)
        return found, msgspec.json.decode(found.record, type=AgentRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{where}: vouches for no agent: {error}", expected="what edgepack agent sign writes"
        ) from None


def keep_endorsement(endorsement: Endorsement) -> None:
    """From now on `push` shows it to boards that want it."""
    path = home() / "agents" / f"{digest.hex_of(agent_digest())}.json"
    files.replace(path, endorsement.encode())


def own_endorsement() -> Endorsement | None:
    """What vouches for this edgepack's agent, if this user has it. Raises InputError where that file is broken."""
    path = home() / "agents" / f"{digest.hex_of(agent_digest())}.json"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return read_endorsement(data, str(path))[0]
