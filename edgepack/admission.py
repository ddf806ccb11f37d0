"""Whether a release may become active on a board: one pure decision, taken by the host before it sends anything and by the
board before it activates anything (`edgepack.device.admission` is the same in the standard library; tests/cases/trust
holds the cases that both must answer alike).

The threats are those of the update framework (theupdateframework/specification §1.5.2): rollback, freeze, mix-and-match,
an arbitrary package, a key that was taken.
"""

from __future__ import annotations

from typing import Literal, assert_never

from msgspec import Struct

from edgepack import digest, target
from edgepack import record as records
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, GateError, TrustError
from edgepack.names import version_key
from edgepack.protocol import Assurance
from edgepack.record import ReleaseRecord

Rule = Literal["mismatch", "revoked", "untrusted", "unsigned", "downgrade", "no-permission", "expired", "scope"]


class Subject(Struct, frozen=True, kw_only=True):
    """What is about to be installed. bundle, manifest: digests."""

    bundle: str
    manifest: str
    name: str
    version: str
    profile: str


class Device(Struct, frozen=True):
    name: str
    labels: dict[str, str] = {}


class Offer(Struct, frozen=True, kw_only=True):
    """A signature that a bundle brings, checked to hold: whether its key is trusted is another question.

    signed: the record's bytes as text, as they were signed; signature: the armored SSHSIG; signer: the key's fingerprint
    """

    record: ReleaseRecord
    signed: str
    signature: str
    signer: str

    @property
    def digest(self) -> Digest:
        """Of the record's bytes."""
        return digest.of_bytes(self.signed.encode())


class Policy(Struct, frozen=True, kw_only=True):
    """Whom somebody trusts: this host's user, or a board.

    required: releases must be signed by a key in `trusted`; allow_unsigned: not all the same, where the operator says so
    """

    trusted: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    required: bool = False
    allow_unsigned: bool = True


class Evidence(Struct, frozen=True, kw_only=True):
    """All that the decision depends on.

    record, signer: what was signed, and the fingerprint of the key whose signature over it holds; neither where unsigned
    trusted, revoked: fingerprints; required: keys are configured, so that a signature by one of them is needed
    allow_unsigned: whoever decides accepts what no trusted key signed; downgrade: the operator asked for one
    highest: the highest version of this name that was ever active there, empty for none
    clock, floor: seconds since 1970: what the clock says, and what is known to have passed; device: None where unknown
    """

    subject: Subject
    record: ReleaseRecord | None = None
    signer: str = ""
    trusted: tuple[str, ...] = ()
    revoked: tuple[str, ...] = ()
    required: bool = False
    allow_unsigned: bool = False
    downgrade: bool = False
    highest: str = ""
    clock: int = 0
    floor: int = 0
    device: Device | None = None


class Admitted(Struct, frozen=True):
    """key: the fingerprint of the trusted key that signed, empty where none did"""

    assurance: Assurance
    key: str = ""


class Refused(Struct, frozen=True):
    rule: Rule


def judge(evidence: Evidence) -> Admitted | Refused:
    """Whether it may become active, and how much is known of it; or the first rule that forbids it."""
    record = evidence.record
    if record is None:
        return _judge_unsigned(evidence)
    subject = evidence.subject
    if any(getattr(record, field) != getattr(subject, field) for field in subject.__struct_fields__):
        return Refused("mismatch")
    if evidence.signer in evidence.revoked:
        return Refused("revoked")
    signed = evidence.signer in evidence.trusted
    if not signed and not evidence.allow_unsigned:
        return Refused("untrusted")
    if _is_older(evidence) and not evidence.downgrade:
        return Refused("downgrade")
    if _is_older(evidence) and evidence.required and not (signed and _allows(record, evidence.highest)):
        return Refused("no-permission")
    if record.expires and now(evidence) > records.seconds(record.expires):
        return Refused("expired")
    if not _is_meant_for(record, evidence):
        return Refused("scope")
    return Admitted("signed", evidence.signer) if signed else Admitted("digests-only")


def now(evidence: Evidence) -> int:
    """The latest time that is known to have come: a board's clock may stand at 1970."""
    issued = records.seconds(evidence.record.issued) if evidence.record else 0
    return max(evidence.clock, evidence.floor, issued)


def _judge_unsigned(evidence: Evidence) -> Admitted | Refused:
    if not evidence.allow_unsigned:
        return Refused("unsigned")
    if _is_older(evidence) and not evidence.downgrade:
        return Refused("downgrade")
    if _is_older(evidence) and evidence.required:
        return Refused("no-permission")
    return Admitted("unsigned")


def _is_older(evidence: Evidence) -> bool:
    return bool(evidence.highest) and version_key(evidence.subject.version) < version_key(evidence.highest)


def _allows(record: ReleaseRecord, highest: str) -> bool:
    bound = record.allows_downgrade_from
    return bool(bound) and version_key(highest) <= version_key(bound)


def _is_meant_for(record: ReleaseRecord, evidence: Evidence) -> bool:
    device = evidence.device
    if not record.targets:
        return True
    if device is None:
        return not evidence.required
    return any(target.expression(one)(device.labels) if "=" in one else one == device.name for one in record.targets)


def explain(rule: Rule, evidence: Evidence, who: str) -> EdgepackError:
    """The error for a refusal. who: who refuses, e.g. `target 'kitchen'`."""
    subject, record = evidence.subject, evidence.record
    release = f"{subject.name} {subject.version}"
    trusted = ", ".join(evidence.trusted) or "none"
    expires, targets = (record.expires, " or ".join(record.targets)) if record else ("", "")
    match rule:
        case "unsigned":
            return TrustError(
                f"{who}: the bundle {release} is not signed",
                expected=f"a signature by a trusted key ({trusted})" if evidence.required else "a signed bundle",
                advice="edgepack sign BUNDLE --sign-key KEY; or --allow-unsigned, where no key is trusted yet,"
                " installs it and marks it so",
            )
        case "untrusted":
            return TrustError(
                f"{who}: the bundle {release} is signed by {evidence.signer}, which is not trusted there",
                expected=f"a signature by a trusted key ({trusted})",
                advice="if the key is right: edgepack trust add KEY.pub here, edgepack target enrol NAME --trust-key"
                " KEY.pub for a board",
            )
        case "revoked":
            return TrustError(
                f"{who}: the bundle {release} is signed by {evidence.signer}, which was revoked",
                expected=f"a signature by a trusted key ({trusted})",
                advice="do not install it; sign what is wanted with a key that was not revoked",
            )
        case "mismatch":
            return TrustError(
                f"{who}: the signed record is of another bundle than {release} ({subject.bundle})",
                expected=f"{record.name} {record.version} ({record.bundle})" if record else "",
                advice="get the bundle again; do not use it as it is",
            )
        case "downgrade":
            return GateError(
                f"{who} has already run {subject.name} {evidence.highest}; {subject.version} is older",
                expected=f"a version of at least {evidence.highest}",
                advice="edgepack rollback goes back to the release before; --downgrade pushes an older one on purpose",
            )
        case "no-permission":
            return TrustError(
                f"{who} has already run {subject.name} {evidence.highest}, and no trusted key allows it to go back to"
                f" {subject.version}",
                expected="a signed release record that allows the downgrade",
                advice=f"edgepack sign BUNDLE --sign-key KEY --allows-downgrade-from {evidence.highest}",
            )
        case "expired":
            return TrustError(
                f"{who}: the signature of {release} expired at {expires}; it is {records.at(now(evidence))} there",
                expected="a release record that is still good, and a clock that is right",
                advice="sign the bundle again, if it is still the one to install; else push a newer one",
            )
        case "scope":
            labels = (
                " ".join(f"{key}={value}" for key, value in evidence.device.labels.items()) if evidence.device else ""
            )
            known = (
                f"{evidence.device.name} ({labels or 'no labels'})" if evidence.device else "a device without a name"
            )
            return TrustError(
                f"{who}: the bundle {release} is meant for {targets}, this is {known}",
                expected="a device that the release record names",
                advice="edgepack target enrol NAME --trust-key KEY.pub tells a board its name and labels anew",
            )
        case _:
            assert_never(rule)
