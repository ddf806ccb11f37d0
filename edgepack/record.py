"""The release record: a compact canonical document that is signed, and says what a bundle is and where it may be installed.

It holds digests, so it speaks for every byte of the bundle; it is small, so a board checks it before anything else.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import Literal

import msgspec
from msgspec import Struct

from edgepack import digest, target
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, InputError
from edgepack.names import NAME, check_name, check_version

SCHEMA: Literal["edgepack.release-record/1"] = "edgepack.release-record/1"
MAX_BYTES = 16 << 10
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SCOPE = re.compile(r"[ -~]{1,400}")
_MOST_SCOPES = 100


class ReleaseRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """bundle: digest of the OCI manifest; manifest: of the runtime manifest

    issued, expires: RFC 3339 in UTC; expires empty: never
    targets: names of devices or expressions over labels, any of which lets it in; empty: every device
    allows_downgrade_from: boards that ran at most this version may be taken back to it; empty: none

    A reader that does not know a field refuses the record: it may be a restriction.
    """

    schema: Literal["edgepack.release-record/1"] = SCHEMA
    bundle: Digest
    manifest: Digest
    name: str
    version: str
    profile: str
    issued: str
    expires: str = ""
    targets: tuple[str, ...] = ()
    allows_downgrade_from: str = ""

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return digest.canonical_json(self)


def decode(data: bytes, where: str) -> ReleaseRecord:
    """Parse a record. Raises InputError naming `where`: another schema, an unknown or wrong field, or not canonical."""
    try:
        record = msgspec.json.decode(data, type=ReleaseRecord)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _broken(where, str(error)) from None
    if len(data) > MAX_BYTES or record.encode() != data:
        raise _broken(where, "it is not written canonically")
    try:
        check(record)
    except EdgepackError as error:
        raise _broken(where, error.what) from None
    return record


def check(record: ReleaseRecord) -> None:
    """Raises InputError or UsageError for a value that no record may have."""
    check_name(record.name)
    check_name(record.profile, "profile")
    check_version(record.version)
    if record.allows_downgrade_from:
        check_version(record.allows_downgrade_from)
    for one in (record.bundle, record.manifest):
        if not digest.is_digest(one):
            raise InputError(f"{one[:80]!r} is no digest", expected="sha256:…")
    seconds(record.issued)
    if record.expires and seconds(record.expires) <= seconds(record.issued):
        raise InputError(f"it expires at {record.expires}, not after {record.issued}, when it was issued")
    if len(record.targets) > _MOST_SCOPES:
        raise InputError(f"it names {len(record.targets)} targets", expected=f"at most {_MOST_SCOPES}")
    for scope in record.targets:
        check_scope(scope)


def check_scope(text: str) -> None:
    """Raises InputError or UsageError unless `text` is the name of a device or an expression over labels."""
    if not _SCOPE.fullmatch(text):
        raise InputError(f"{text[:80]!r} names no target", expected="a name, or an expression such as 'ring=canary'")
    if "=" in text:
        target.expression(text)
    elif not NAME.fullmatch(text):
        check_name(text, "target")


def seconds(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time in UTC. Raises InputError where it is none."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        raise InputError(f"{text[:80]!r} is no time", expected="YYYY-MM-DDTHH:MM:SSZ") from None


def at(when: int) -> str:
    """RFC 3339 in UTC of seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))


def _broken(where: str, why: str) -> InputError:
    return InputError(
        f"{where}: not a release record: {why}",
        expected=SCHEMA,
        advice="update edgepack if it was signed by a newer one; else sign the bundle again",
    )
