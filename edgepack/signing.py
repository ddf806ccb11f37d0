"""Signing a bundle, and telling who signed one: records, keys and bundles brought together."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from edgepack import admission, digest, record, remote, sshsig, trust
from edgepack import bundle as bundles
from edgepack.admission import Admitted, Evidence, Offer, Policy, Refused, Subject
from edgepack.bundle import Bundle
from edgepack.errors import EdgepackError, InputError, UsageError
from edgepack.names import check_version
from edgepack.record import ReleaseRecord
from edgepack.remote import AgentRecord, Endorsement
from edgepack.trust import Keyring, Signer

_DURATION = re.compile(r"([1-9][0-9]{0,5})([hdw])")
_UNITS = {"h": 3600, "d": 86400, "w": 7 * 86400}


class Terms(Struct, frozen=True, kw_only=True):
    """What a signature allows.

    lasts: seconds for which it may be used to install the bundle, 0 for ever; targets: names or label expressions, empty for
    every device; allows_downgrade_from: boards that ran at most this version may be taken back, empty for none
    """

    lasts: int = 0
    targets: tuple[str, ...] = ()
    allows_downgrade_from: str = ""


def terms(lasts: str, targets: Sequence[str], allows_downgrade_from: str) -> Terms:
    """From what a person wrote. Raises UsageError or InputError for a value that no record may have."""
    found = _DURATION.fullmatch(lasts)
    if lasts and not found:
        raise UsageError(f"{lasts!r} is no duration", expected="hours, days or weeks: 12h, 90d, 8w")
    if allows_downgrade_from:
        check_version(allows_downgrade_from)
    for target in targets:
        record.check_scope(target)
    return Terms(
        lasts=int(found[1]) * _UNITS[found[2]] if found else 0,
        targets=tuple(targets),
        allows_downgrade_from=allows_downgrade_from,
    )


def sign(bundle: Bundle, signer: Signer, wanted: Terms, *, beside: bool = False) -> Bundle:
    """Sign a bundle in its place; its digest stays. beside: keep the signatures that it has.

    The time is SOURCE_DATE_EPOCH's where that is set, so that signing twice gives the same bytes, else the clock's.
    Raises TrustError where a blob of the bundle is broken, InputError where it cannot be written.
    """
    bundle.verify()
    issued, manifest = issue_time(), bundle.manifest
    signed = ReleaseRecord(
        bundle=bundle.digest,
        manifest=digest.of_bytes(bundle.manifest_bytes),
        name=manifest.name,
        version=manifest.version,
        profile=manifest.profile.name,
        issued=record.at(issued),
        expires=record.at(issued + wanted.lasts) if wanted.lasts else "",
        targets=wanted.targets,
        allows_downgrade_from=wanted.allows_downgrade_from,
    )
    record.check(signed)
    data = signed.encode()
    statement = bundles.Statement(data, signer.sign(data))
    trust.check_signature(data, statement.signature, str(bundle.path))
    return bundles.attach(bundle, statement, beside=beside)


def endorse_agent(signer: Signer) -> Endorsement:
    """Vouch for the agent of this edgepack: boards that trust the key take it from a restricted key (docs/adr/0024)."""
    data = AgentRecord(agent=remote.agent_digest(), issued=record.at(issue_time())).encode()
    return Endorsement(record=data.decode(), signature=signer.sign(data, sshsig.AGENT_NAMESPACE))


def check_endorsement(data: bytes, where: str) -> tuple[Endorsement, str]:
    """What somebody wrote to vouch for this edgepack's agent, and the fingerprint of the key that signed it.

    Raises InputError where it is something else or of another agent, TrustError where its signature does not hold. Whether
    that key is trusted is each board's to say.
    """
    found, said = remote.read_endorsement(data, where)
    if said.agent != remote.agent_digest():
        raise InputError(
            f"{where}: vouches for the agent {said.agent[7:23]}…",
            expected=f"one for {remote.agent_digest()[7:23]}…, which this edgepack brings",
            advice="sign with the same version of edgepack that is installed here",
        )
    key = trust.check_signature(found.record.encode(), found.signature, where, sshsig.AGENT_NAMESPACE)
    return found, key.fingerprint


def issue_time() -> int:
    """Seconds since 1970. Raises InputError where SOURCE_DATE_EPOCH is set and no time."""
    said = os.environ.get("SOURCE_DATE_EPOCH", "")
    if said and not re.fullmatch(r"[0-9]{1,11}", said):
        raise InputError(f"SOURCE_DATE_EPOCH is {said[:80]!r}", expected="seconds since 1970-01-01")
    return int(said) if said else int(time.time())


def offers(bundle: Bundle) -> tuple[Offer, ...]:
    """The signatures that a bundle brings. Raises TrustError where one does not hold, whoever signed it; InputError."""
    found = []
    for statement in bundles.statements(bundle):
        where = f"{bundle.path}: its signature"
        key = trust.check_signature(statement.record, statement.signature, where)
        parsed = record.decode(statement.record, where)
        found.append(
            Offer(
                record=parsed,
                signed=statement.record.decode("ascii"),
                signature=statement.signature,
                signer=key.fingerprint,
            )
        )
    return tuple(found)


def own_policy(paths: Sequence[Path] = ()) -> Policy:
    """Whom this user trusts: the keys in `paths`, or else in `$EDGEPACK_HOME/trust`."""
    return policy(trust.load_keyring(paths))


def policy(keyring: Keyring) -> Policy:
    return Policy(trusted=keyring.trusted, revoked=keyring.revoked, required=bool(keyring.keys))


def examine(bundle: Bundle, held_against: Policy, *, allow_unsigned: bool = False) -> Admitted:
    """What is known of a bundle on this host, every byte of it read. No board is asked: to whom it is meant stays open.

    Raises TrustError: a blob or a signature does not hold, or no key that `held_against` trusts signed it, unless that is
    allowed or it trusts no key at all.
    """
    bundle.verify()
    manifest = bundle.manifest
    subject = Subject(
        bundle=bundle.digest,
        manifest=digest.of_bytes(bundle.manifest_bytes),
        name=manifest.name,
        version=manifest.version,
        profile=manifest.profile.name,
    )
    verdicts: list[Admitted] = []
    refusals: list[EdgepackError] = []
    found: tuple[Offer | None, ...] = offers(bundle) or (None,)
    for offer in found:
        evidence = Evidence(
            subject=subject,
            record=offer.record if offer else None,
            signer=offer.signer if offer else "",
            trusted=held_against.trusted,
            revoked=held_against.revoked,
            allow_unsigned=allow_unsigned or not held_against.required,
            clock=int(time.time()),
        )
        verdict = admission.judge(evidence)
        if isinstance(verdict, Refused):
            refusals.append(admission.explain(verdict.rule, evidence, str(bundle.path)))
        else:
            verdicts.append(verdict)
    if not verdicts:
        raise refusals[0]
    return next((one for one in verdicts if one.assurance == "signed"), verdicts[0])
