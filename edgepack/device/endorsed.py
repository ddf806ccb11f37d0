"""An agent that a restricted key brings: let in where a key that this board trusts signed it.

ROOT/agent/HEX/agent.json      {"record", "signature"}: the record names the agent's digest and when that was signed
ROOT/agents.json               {"newest"}: when the newest one let in was signed; one that comes later and is older is refused
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from typing import Any, Dict

from . import journal, store, trust
from .faults import Fault

SCHEMA = "edgepack.agent-record/1"
_MOST = 32 << 10
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def path_of(root: str, digest: str) -> str:
    """digest: an agent's, in hex"""
    return os.path.join(root, "agent", digest, "agent.json")


def is_endorsed(root: str, digest: str) -> bool:
    """Whether an agent came with a signature by a key that is trusted still. Raises Fault where it did, and is not any more."""
    raw = store.read_json(path_of(root, digest))
    if raw is None:
        return False
    _check(root, digest, raw)
    return True


def admit(root: str, digest: str, text: str, data: bytes) -> None:
    """Store an agent with the signature that vouches for it. text: {"record", "signature"} in base64; data: the agent's bytes,
    whose digest was compared. Raises Fault naming the rule that forbids it."""
    try:
        raw = json.loads(base64.b64decode(text[:_MOST], validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise _broken("it is no JSON in base64") from None
    record = _check(root, digest, raw)
    with store.locked(root, "agent"):
        newest = str((store.read_json(os.path.join(root, "agents.json")) or {}).get("newest", ""))
        if record["issued"] < newest and not os.path.exists(path_of(root, digest)):
            raise Fault(
                "trust",
                f"the agent {digest[:16]}… was signed at {record['issued']}, before one that this board already knows",
                expected=f"an agent that was signed at {newest} or later",
                advice="update edgepack; or sign its agent again, if it is still the one to run",
            )
        folder = os.path.dirname(path_of(root, digest))
        os.makedirs(folder, exist_ok=True)
        store.write_file(os.path.join(folder, "agent.pyz"), data)
        store.write_json(path_of(root, digest), {name: raw[name] for name in ("record", "signature")})
        store.write_json(os.path.join(root, "agents.json"), {"newest": max(newest, record["issued"])})
        journal.append(root, "agent", agent=digest, key=record["key"])


def _check(root: str, digest: str, raw: Any) -> Dict[str, str]:
    """The record, and under `key` who signed it."""
    from . import sshsig

    if not isinstance(raw, dict) or not all(isinstance(raw.get(name), str) for name in ("record", "signature")):
        raise _broken("it has no record and signature")
    record = _decode(raw["record"])
    if record["agent"] != "sha256:" + digest:
        raise _broken(f"it is of {record['agent'][:80]}")
    signer = sshsig.verify_agent(raw["record"].encode(), raw["signature"])
    known = trust.read(root)
    if signer not in known.keys:
        raise Fault(
            "trust",
            f"the agent {digest[:16]}… is signed by {signer}, "
            + ("which was revoked" if signer in known.revoked else "which this board does not trust"),
            expected=f"a signature by a key that this board trusts ({', '.join(known.keys) or 'none'})",
            advice="edgepack agent sign --sign-key KEY, with one of these; or edgepack target authorize with another login",
        )
    return {**record, "key": signer}


def _decode(text: str) -> Dict[str, str]:
    try:
        record = json.loads(text)
        canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if set(record) != {"schema", "agent", "issued"} or canonical != text:
            raise ValueError("its fields are others, or not written canonically")
        if record["schema"] != SCHEMA or not _TIME.fullmatch(record["issued"]) or not isinstance(record["agent"], str):
            raise ValueError("one of its values is none")
    except (ValueError, TypeError, RecursionError) as error:
        raise _broken(str(error)) from None
    return dict(record)


def _broken(why: str) -> Fault:
    return Fault(
        "trust",
        f"what vouches for the agent cannot be used: {why}",
        expected=SCHEMA,
        advice="edgepack agent sign --sign-key KEY makes one; edgepack agent add FILE brings it to this host",
    )
