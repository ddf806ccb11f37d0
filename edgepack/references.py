"""What a word on the command line means where a bundle is wanted: a file, a bundle of the local store, one in a registry.

kws-1.2.0-rpi4.edgepack   ./folder                      a file, or a layout as a folder
kws@1.2.0   kws@1.2.0/rpi4   sha256:1a2b3c…              the local store
localhost:5000/team/kws:1.2.0   ghcr.io/team/kws@sha256:…     a registry (opencontainers/distribution-spec)
"""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from edgepack.digest import Digest
from edgepack.errors import InputError, UsageError
from edgepack.names import NAME, check_version

_HOST = re.compile(r"(?:\[[0-9a-fA-F:]{2,39}\]|[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)(?::[0-9]{1,5})?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"  # distribution-spec v1.1, <name>
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT_DIGEST = re.compile(r"sha256:[0-9a-f]{6,64}")
_LONGEST_REPOSITORY = 255
_FORM = "HOST[:PORT]/REPOSITORY:TAG, or …@sha256:…"


class InRegistry(Struct, frozen=True):
    """tag: empty where `digest` says which; both may be given, then the digest must be what the tag names"""

    host: str
    repository: str
    tag: str = ""
    digest: Digest = Digest("")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def wanted(self) -> str:
        """What a request for the manifest names."""
        return self.digest or self.tag

    @property
    def loopback(self) -> bool:
        """Whether the host is this machine: no network between that could read or change what is sent."""
        host = self.host.rpartition(":")[0] if re.search(r":[0-9]+$", self.host) else self.host
        return host in ("localhost", "[::1]") or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


class InStore(Struct, frozen=True):
    """version, profile: empty where any may be meant; digest: whole or its first hexadecimal digits, or empty"""

    name: str
    version: str = ""
    profile: str = ""
    digest: str = ""


Reference = Path | InStore | InRegistry


def parse(word: str) -> Reference:
    """What `word` means. What exists as a file is the file; `oci://` before a registry's reference leaves no doubt.

    Raises UsageError for a registry's reference without tag and digest, or with a part that none may have.
    """
    if word.startswith("oci://"):
        return registry(word.removeprefix("oci://"))
    if word.endswith(".edgepack") or word.startswith(("/", "./", "../", "~")) or _exists(word):
        return Path(word)
    if _SHORT_DIGEST.fullmatch(word):
        return InStore("", digest=word)
    name, at, rest = word.partition("@")
    if at and NAME.fullmatch(name):
        version, _, profile = rest.partition("/")
        return InStore(name, _version(version), profile)
    host, slash, _ = word.partition("/")
    if slash and _HOST.fullmatch(host) and (":" in host or "." in host or host == "localhost"):
        return registry(word)
    return Path(word)


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # longer than a name may be, or no name at all
        return False


def registry(word: str) -> InRegistry:
    """`HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`. Raises UsageError naming what is wrong with it."""
    host, slash, rest = word.removeprefix("oci://").partition("/")
    rest, at, digest = rest.partition("@")
    repository, _, tag = rest.partition(":")
    if not slash or not _HOST.fullmatch(host):
        raise UsageError(f"{word[:200]!r} names no registry", expected=_FORM)
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _LONGEST_REPOSITORY:
        raise UsageError(
            f"{word[:200]!r}: {repository[:80]!r} cannot be a repository",
            expected=f"lower-case letters, digits and separators between them, as in {_FORM}",
        )
    if (at and not _DIGEST.fullmatch(digest)) or (tag and not _TAG.fullmatch(tag)):
        raise UsageError(f"{word[:200]!r}: its tag or its digest cannot be one", expected=_FORM)
    if not tag and not at:
        raise UsageError(
            f"{word[:200]!r} names neither a tag nor a digest",
            expected=_FORM,
            advice="name one: there is no latest that is meant silently",
        )
    return InRegistry(host, repository, tag, Digest(digest))


def _version(text: str) -> str:
    try:
        return check_version(text) if text else ""
    except InputError as error:
        raise UsageError(error.what, expected="NAME@1.2.0 or NAME@1.2.0/PROFILE") from None
