"""Whether a release may become active here: the decision of `edgepack.admission`, in the standard library. Pure.

tests/cases/trust holds the cases that both must answer alike.
"""

from __future__ import annotations

import calendar
import json
import re
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .faults import Fault
from .requests import check

SCHEMA = "edgepack.release-record/1"
_MOST = 16 << 10
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SCOPE = re.compile(r"[ -~]{1,400}")
_VERSION = re.compile(r"[0-9A-Za-z.+-]{1,64}")
_TOKEN = re.compile(r"\s*(?:([()])|(and|or|not)(?![\w.=!-])|([\w.-]+)\s*(!?=)\s*([\w.:/-]+))")
_MOST_TOKENS = 200


class ReleaseRecord(NamedTuple):
    """What was signed; see `edgepack.record`."""

    bundle: str
    manifest: str
    name: str
    version: str
    profile: str
    issued: str
    expires: str
    targets: Tuple[str, ...]
    allows_downgrade_from: str


class Subject(NamedTuple):
    bundle: str
    manifest: str
    name: str
    version: str
    profile: str


class Device(NamedTuple):
    name: str
    labels: Dict[str, str]


class Evidence(NamedTuple):
    """See `edgepack.admission.Evidence`."""

    subject: Subject
    record: Optional[ReleaseRecord] = None
    signer: str = ""
    trusted: Tuple[str, ...] = ()
    revoked: Tuple[str, ...] = ()
    required: bool = False
    allow_unsigned: bool = False
    downgrade: bool = False
    highest: str = ""
    clock: int = 0
    floor: int = 0
    device: Optional[Device] = None


class Verdict(NamedTuple):
    """rule: why it is refused, empty where it is admitted with `assurance`; key: the trusted key that signed, or nothing"""

    rule: str = ""
    assurance: str = ""
    key: str = ""


def judge(evidence: Evidence) -> Verdict:
    """Whether it may become active, and how much is known of it; or the first rule that forbids it."""
    record = evidence.record
    if record is None:
        return _judge_unsigned(evidence)
    if any(getattr(record, field) != getattr(evidence.subject, field) for field in Subject._fields):
        return Verdict("mismatch")
    if evidence.signer in evidence.revoked:
        return Verdict("revoked")
    signed = evidence.signer in evidence.trusted
    if not signed and not evidence.allow_unsigned:
        return Verdict("untrusted")
    if _is_older(evidence) and not evidence.downgrade:
        return Verdict("downgrade")
    if _is_older(evidence) and evidence.required and not (signed and _allows(record, evidence.highest)):
        return Verdict("no-permission")
    if record.expires and now(evidence) > seconds(record.expires):
        return Verdict("expired")
    if not _is_meant_for(record, evidence):
        return Verdict("scope")
    return Verdict("", "signed", evidence.signer) if signed else Verdict("", "digests-only")


def now(evidence: Evidence) -> int:
    """The latest time that is known to have come: the clock here may stand at 1970."""
    return max(evidence.clock, evidence.floor, seconds(evidence.record.issued) if evidence.record else 0)


def raised_floor(evidence: Evidence) -> int:
    """The floor once this was admitted as signed: what a trusted key said, and the clock as far as that key vouches for it.

    A clock that is years ahead for a day must not make every signature look expired for years.
    """
    record = evidence.record
    if record is None:
        return evidence.floor
    said = evidence.clock if record.expires and evidence.clock <= seconds(record.expires) else 0
    return max(evidence.floor, seconds(record.issued), said)


def _judge_unsigned(evidence: Evidence) -> Verdict:
    if not evidence.allow_unsigned:
        return Verdict("unsigned")
    if _is_older(evidence) and not evidence.downgrade:
        return Verdict("downgrade")
    if _is_older(evidence) and evidence.required:
        return Verdict("no-permission")
    return Verdict("", "unsigned")


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
    return any(_Expression(one, device.labels).holds() if "=" in one else one == device.name for one in record.targets)


def decode(data: bytes) -> ReleaseRecord:
    """Parse a record. Raises Fault for another schema, an unknown or wrong field, or bytes that are not canonical."""
    try:
        raw = json.loads(data.decode("ascii")) if len(data) <= _MOST else None
        if not isinstance(raw, dict) or set(raw) - {"schema"} != set(ReleaseRecord._fields):
            raise ValueError(f"its fields are not those of {SCHEMA}")
        if raw["schema"] != SCHEMA:
            raise ValueError(f"its schema is {raw['schema']!r}")
        if json.dumps(raw, sort_keys=True, separators=(",", ":")).encode() != data:
            raise ValueError("it is not written canonically")
        return _checked(raw)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Fault(
            "trust",
            f"the release record cannot be read: {error}",
            expected=SCHEMA,
            advice="update edgepack if it was signed by a newer one; else sign the bundle again",
        ) from None


def seconds(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time in UTC. Raises ValueError where it is none."""
    if not _TIME.fullmatch(text):
        raise ValueError(f"{text[:80]!r} is no time")
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def _checked(raw: Dict[str, Any]) -> ReleaseRecord:
    targets = raw["targets"]
    if not isinstance(targets, list) or len(targets) > 100:
        raise ValueError("its targets are no list")
    record = ReleaseRecord(**{field: raw[field] for field in ReleaseRecord._fields if field != "targets"}, targets=())
    if not all(isinstance(text, str) for text in (*record[:7], record.allows_downgrade_from, *targets)):
        raise ValueError("a field of it is no text")
    try:
        for field, rule in (("bundle", "digest"), ("manifest", "digest"), ("name", "name"), ("profile", "name")):
            check(raw[field], rule)
    except Fault as fault:
        raise ValueError(fault.what) from None
    for version in (record.version, record.allows_downgrade_from or "0.0.0"):
        if not _VERSION.fullmatch(version) or len(version_key(version)[0]) != 3:
            raise ValueError(f"{version[:80]!r} is no version")
    if record.expires and seconds(record.expires) <= seconds(record.issued):
        raise ValueError("it expires before it was issued")
    seconds(record.issued)
    for scope in targets:
        if not _SCOPE.fullmatch(scope):
            raise ValueError(f"{scope[:80]!r} names no target")
        if "=" in scope:
            _Expression(scope, {}).holds()
    return record._replace(targets=tuple(targets))


def version_key(version: str) -> Tuple[Tuple[int, ...], int, List[Tuple[int, int, str]]]:
    """Precedence of semantic versions (semver.org 2.0.0, section 11); what is no version sorts first."""
    plain = version.partition("+")[0]
    core, _, pre = plain.partition("-")
    numbers = tuple(int(part) for part in core.split(".")) if re.fullmatch(r"\d+(\.\d+)*", core) else ()
    parts = [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split(".")] if pre else []
    return numbers, 0 if pre else 1, parts


class _Expression:
    """`key=value`, `key!=value`, `not`, `and`, `or`, parentheses, as `edgepack.target.expression` reads them; evaluated at once.

    Every part is read whatever the parts before it gave. Raises ValueError where it cannot be read.
    """

    def __init__(self, text: str, labels: Dict[str, str]) -> None:
        self._labels, self._at = labels, 0
        self._tokens: List[Tuple[str, ...]] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if not found:
                raise ValueError(f"the label expression {text!r} cannot be read")
            self._tokens.append(tuple(group or "" for group in found.groups()))
            at = found.end()
        if len(self._tokens) > _MOST_TOKENS:
            raise ValueError("a label expression has too many parts")

    def holds(self) -> bool:
        result = self._either()
        if self._at != len(self._tokens):
            raise ValueError("a label expression has a part too many")
        return result

    def _either(self) -> bool:
        result = self._both()
        while self._accept("or"):
            result = self._both() or result
        return result

    def _both(self) -> bool:
        result = self._one()
        while self._accept("and"):
            result = self._one() and result
        return result

    def _one(self) -> bool:
        if self._accept("not"):
            return not self._one()
        if self._accept("("):
            result = self._either()
            if not self._accept(")"):
                raise ValueError("a parenthesis of a label expression is not closed")
            return result
        if self._at >= len(self._tokens) or not self._tokens[self._at][2]:
            raise ValueError("a label expression has a part too few")
        _, _, key, sign, value = self._tokens[self._at]
        self._at += 1
        return (self._labels.get(key) == value) is (sign == "=")

    def _accept(self, literal: str) -> bool:
        found = self._at < len(self._tokens) and literal in self._tokens[self._at][:2]
        self._at += found
        return found
