"""Whom this board trusts, and the check of a release against it before anything of it is run or activated.

/etc/edgepack/trust/       where it exists, the board's administrator decides, and what lies below ROOT counts for nothing
ROOT/trust/                else; `edgepack target enrol` writes it
  *.pub                    keys that may sign releases, OpenSSH's format, one a line
  revoked                  fingerprints (SHA256:…) that are trusted never again, one a line
  device.json              {"name", "labels": {…}, "allow_unsigned": false}: who this board is, and its policy
ROOT/clock.json            {"floor": SECONDS}: a time that has passed for sure
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from . import store
from .faults import Fault

if TYPE_CHECKING:
    from .admission import Device, Evidence, Subject, Verdict
    from .requests import TrustRequest

# What checks signatures is imported where it is used: a board that trusts no key has nothing to compile.

SYSTEM = "/etc/edgepack/trust"
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_MOST = 1 << 20
_EXPECTED = {
    "unsigned": "a bundle signed by a key that this board trusts ({trusted})",
    "untrusted": "a signature by a key that this board trusts ({trusted})",
    "revoked": "a signature by a key that was not revoked",
    "mismatch": "the release record of this bundle",
    "downgrade": "a version of at least {highest}",
    "no-permission": "a signed release record that allows to go back from {highest}",
    "expired": "a release record that is still good, and a clock that is right",
    "scope": "a device that the release record names: {targets}",
}
_WHAT = {
    "unsigned": "{release} is not signed",
    "untrusted": "{release} is signed by {signer}, which this board does not trust",
    "revoked": "{release} is signed by {signer}, which was revoked",
    "mismatch": "the signed record is not of {release} ({bundle})",
    "downgrade": "{release} is older than {highest}, which this board has already run",
    "no-permission": "{release} is older than {highest}, and no trusted key allows that",
    "expired": "the signature of {release} expired at {expires}; it is {now} here",
    "scope": "{release} is not meant for this board, which is {device}",
}
_ADVICE = {
    "unsigned": "edgepack sign BUNDLE --sign-key KEY",
    "untrusted": "edgepack target enrol NAME --trust-key KEY.pub, if the key is right",
    "revoked": "do not install it",
    "mismatch": "get the bundle again; do not install it as it is",
    "downgrade": "edgepack rollback goes back to the release before; --downgrade pushes an older version on purpose",
    "no-permission": "edgepack sign BUNDLE --sign-key KEY --allows-downgrade-from {highest}",
    "expired": "sign the bundle again, if it is still the one to install; else push a newer one",
    "scope": "edgepack target enrol NAME --trust-key KEY.pub tells a board its name and labels anew",
}


class Trust(NamedTuple):
    """keys: fingerprints of those that are trusted; required: releases must be signed by one of them

    system: its administrator keeps it; device: None where nobody told; allow_unsigned: its policy
    """

    folder: str
    system: bool
    required: bool
    keys: Tuple[str, ...]
    revoked: Tuple[str, ...]
    device: Optional[Device]
    allow_unsigned: bool


class Admission(NamedTuple):
    """assurance: `signed`, `digests-only` or `unsigned`; key: who signed; checked_by: what verified it"""

    assurance: str
    key: str
    checked_by: str
    expires: str


def read(root: str) -> Trust:
    """Whom this board trusts now. Raises Fault for a file that cannot be read: a broken one must not mean nobody."""
    system = os.path.lexists(SYSTEM)
    folder = SYSTEM if system else os.path.join(root, "trust")
    revoked = tuple(_lines(os.path.join(folder, "revoked")))
    if not all(_FINGERPRINT.fullmatch(one) for one in revoked):
        raise Fault("trust", f"{folder}/revoked is broken", expected="a fingerprint SHA256:… in every line")
    keys: List[str] = []
    for name in _files(folder):
        from . import sshsig

        path = os.path.join(folder, name)
        keys += [sshsig.fingerprint(sshsig.parse_key(line, path)) for line in _lines(path)]
    kept = tuple(dict.fromkeys(key for key in keys if key not in revoked))
    device, allow_unsigned = _device(os.path.join(folder, "device.json"))
    # with every key revoked a board trusts nobody, which is not the same as having never been told
    return Trust(folder, system, system or bool(keys), kept, revoked, device, allow_unsigned)


def admit(root: str, subject: Subject, record: str, signature: str, highest: str, downgrade: bool) -> Admission:
    """Check a release before it is used: its signature, its record, and the record against this board. Under the lock.

    Raises Fault (`trust`, or `gate` for a version that is older) naming the rule that forbids it. What was learnt of the time
    is kept.
    """
    from . import admission, sshsig

    trust = read(root)
    signer, checker, parsed = "", "", None
    if record or signature:
        parsed = admission.decode(record.encode())
        signer, checker = sshsig.verify(root, record.encode(), signature)
    evidence = admission.Evidence(
        subject=subject,
        record=parsed,
        signer=signer,
        trusted=trust.keys,
        revoked=trust.revoked,
        required=trust.required,
        allow_unsigned=trust.allow_unsigned or not trust.required,
        downgrade=downgrade,
        highest=highest,
        clock=int(time.time()),
        floor=floor(root),
        device=trust.device,
    )
    verdict = admission.judge(evidence)
    if verdict.rule:
        raise refusal(verdict, evidence)
    if verdict.assurance == "signed" and admission.raised_floor(evidence) > evidence.floor:
        store.write_json(os.path.join(root, "clock.json"), {"floor": admission.raised_floor(evidence)})
    return Admission(verdict.assurance, signer, checker, parsed.expires if parsed else "")


def floor(root: str) -> int:
    """A time, in seconds since 1970, that has passed for sure."""
    raw = store.read_json(os.path.join(root, "clock.json")) or {}
    return int(raw.get("floor", 0))


def enrol(root: str, request: TrustRequest) -> Dict[str, Any]:
    """Trust further keys, revoke others, and learn who this board is. Doing it again changes nothing.

    Raises Fault where the board's administrator keeps its trust and it is not what is asked for, and for a key that was revoked.
    """
    from . import journal, sshsig

    with store.locked(root, "trust"):
        before = read(root)
        wanted = {sshsig.fingerprint(sshsig.parse_key(line, "the key")): line for line in request.keys}
        if not all(_FINGERPRINT.fullmatch(one) for one in request.revoke):
            raise Fault("input", "what is to be revoked is no fingerprint", expected="SHA256:…")
        revoked = [one for one in request.revoke if one not in before.revoked]
        if before.system:
            _ensure_kept(before, wanted, revoked)
            return state(root)
        for one in wanted:
            if one in before.revoked or one in revoked:
                raise Fault("trust", f"{one} was revoked on this board", expected="a key that was not")
        os.makedirs(before.folder, mode=0o755, exist_ok=True)
        store.sweep(before.folder)
        if revoked:
            lines = "".join(one + "\n" for one in (*before.revoked, *revoked))
            store.write_file(os.path.join(before.folder, "revoked"), lines.encode())
        for one, line in wanted.items():
            if one not in before.keys:
                name = hashlib.sha256(one.encode()).hexdigest()[:16] + ".pub"
                store.write_file(os.path.join(before.folder, name), line.strip().encode() + b"\n")
        _learn(before, request)
        added = " ".join(sorted(set(wanted) - set(before.keys)))
        if added or revoked:
            journal.append(root, "trust", who=request.who, added=added, revoked=" ".join(revoked))
        return state(root)


def state(root: str) -> Dict[str, Any]:
    """What the host is told of it."""
    trust = read(root)
    return {
        "keys": list(trust.keys),
        "revoked": list(trust.revoked),
        "required": trust.required,
        "system": trust.system,
        "allow_unsigned": trust.allow_unsigned,
        "device": trust.device.name if trust.device else "",
        "labels": trust.device.labels if trust.device else {},
        "clock": int(time.time()),
        "floor": floor(root),
    }


def refusal(verdict: Verdict, evidence: Evidence) -> Fault:
    from . import admission

    subject = evidence.subject
    record = evidence.record or admission.ReleaseRecord("", "", "", "", "", "", "", (), "")
    words = {
        "release": f"{subject.name} {subject.version}",
        "bundle": subject.bundle,
        "signer": evidence.signer,
        "trusted": ", ".join(evidence.trusted) or "none",
        "highest": evidence.highest,
        "expires": record.expires,
        "targets": " or ".join(record.targets),
        "now": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(admission.now(evidence))),
        "device": evidence.device.name if evidence.device else "without a name",
    }
    what, expected, advice = (table[verdict.rule].format(**words) for table in (_WHAT, _EXPECTED, _ADVICE))
    return Fault("gate" if verdict.rule == "downgrade" else "trust", what, expected, advice)


def _ensure_kept(before: Trust, wanted: Dict[str, str], revoked: List[str]) -> None:
    missing = [one for one in wanted if one not in before.keys]
    if missing or revoked:
        raise Fault(
            "trust",
            f"whom this board trusts is kept by its administrator in {SYSTEM}, "
            + (f"which lacks {', '.join(missing)}" if missing else f"which does not revoke {', '.join(revoked)}"),
            expected="its administrator to change it",
            advice=f"as root on the board: put the key into {SYSTEM}, or its fingerprint into {SYSTEM}/revoked",
        )


def _learn(before: Trust, request: TrustRequest) -> None:
    labels = dict(one.split("=", 1) for one in request.labels if "=" in one)
    if before.device != (request.device, labels):
        told = {"name": request.device, "labels": labels, "allow_unsigned": before.allow_unsigned}
        store.write_json(os.path.join(before.folder, "device.json"), told)


def _device(path: str) -> Tuple[Optional[Device], bool]:
    text = "".join(_lines(path))
    if not text:
        return None, False
    from .admission import Device

    try:
        raw = json.loads(text)
        name, labels, allow = raw.get("name", ""), raw.get("labels", {}), raw.get("allow_unsigned", False)
        if not isinstance(name, str) or not isinstance(allow, bool):
            raise TypeError
        if not all(isinstance(key, str) and isinstance(value, str) for key, value in labels.items()):
            raise TypeError
    except (ValueError, AttributeError, TypeError):
        raise Fault(
            "trust", f"{path} is broken", expected='{"name": "…", "labels": {…}, "allow_unsigned": false}'
        ) from None
    return (Device(name, labels) if name else None), allow


def _files(folder: str) -> List[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".pub") and not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Fault("trust", f"{folder} cannot be read: {error.strerror}", expected="a folder of keys") from None


def _lines(path: str) -> List[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip() for line in file.read(_MOST).splitlines()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Fault("trust", f"{path} cannot be read: {error.strerror}", expected="a file that is there") from None
    return [line for line in lines if line and not line.startswith("#")]
