"""Whom this user trusts to sign: `$EDGEPACK_HOME/trust/*.pub`, and `revoked`, fingerprints that nobody trusts any more.

A file of keys is a `.pub` file or OpenSSH's allowed_signers (ssh-keygen(1)): one key a line.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack import files, sshsig
from edgepack.errors import InputError
from edgepack.home import home
from edgepack.sshsig import PublicKey

_KIND = re.compile(r"(?:^|[ \t])(?P<kind>(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+)[ \t]+(?P<rest>AAAA.*)")
_NAMESPACES = re.compile(r'namespaces="(?P<patterns>[^"]*)"', re.IGNORECASE)
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_MOST = 1 << 20


@dataclass(frozen=True)
class Keyring:
    """keys: trusted, revoked ones among them or not; revoked: fingerprints"""

    keys: tuple[PublicKey, ...] = ()
    revoked: tuple[str, ...] = ()

    @property
    def trusted(self) -> tuple[str, ...]:
        """Fingerprints of the keys that may sign."""
        return tuple(dict.fromkeys(key.fingerprint for key in self.keys if key.fingerprint not in self.revoked))


def own_folder() -> Path:
    return home() / "trust"


def load_keyring(paths: Sequence[Path] = ()) -> Keyring:
    """The keys in `paths`, or else those of this user; and always what this user revoked.

    Raises InputError for a file that is missing or holds no key that can be used.
    """
    folder = own_folder()
    chosen = paths or sorted(folder.glob("*.pub"))
    return Keyring(tuple(key for path in chosen for key in read_keys(path)), _read_revoked(folder / "revoked"))


def read_keys(path: Path) -> tuple[PublicKey, ...]:
    """The Ed25519 keys in a `.pub` or an allowed_signers file. Raises InputError naming it where there is none.

    Of allowed_signers' options `namespaces` is kept; a line with another one is refused, since it restricts the key.
    """
    try:
        with path.open("r", encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}", expected="a .pub file, or OpenSSH's allowed_signers"
        ) from None
    if "PRIVATE KEY-----" in text:
        raise InputError(f"{path}: a private key", expected="the public one", advice=f"name {path}.pub")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    kinds: list[str] = []
    keys: list[PublicKey] = []
    for number, line in lines:
        found = _KIND.search(line)
        if not found:
            raise InputError(f"{path}:{number}: not an OpenSSH public key", expected=f"{sshsig.ALGORITHM} AAAA…")
        kinds.append(found["kind"])
        if found["kind"] == sshsig.ALGORITHM and _is_for_releases(line[: found.start("kind")], f"{path}:{number}"):
            keys.append(sshsig.parse_key(f"{found['kind']} {found['rest']}", f"{path}:{number}"))
    if not keys and kinds and sshsig.ALGORITHM not in kinds:
        raise sshsig.other_algorithm(str(path), kinds[0])
    if not keys:
        raise InputError(f"{path}: no key that may sign releases", expected=f"a line {sshsig.ALGORITHM} AAAA…")
    return tuple(keys)


def _is_for_releases(before: str, where: str) -> bool:
    """Whether an allowed_signers line's options let the key sign releases. before: its principals and options."""
    given = _NAMESPACES.search(before)
    options = before.replace(given[0], "").split()[1:] if given else before.split()[1:]
    if options:
        raise InputError(
            f"{where}: the option {options[0].partition('=')[0]!r} is not supported",
            expected='no option but namespaces="…"',
            advice="give edgepack a file of its own, with the keys that may sign releases",
        )
    return given is None or sshsig.NAMESPACE in given["patterns"].split(",")


def trust(key: PublicKey) -> Path:
    """Trust a key from now on. Raises InputError for one that was revoked. Adding it again changes nothing."""
    folder = own_folder()
    if key.fingerprint in _read_revoked(folder / "revoked"):
        raise InputError(
            f"{key.fingerprint} was revoked",
            expected="a key that was not",
            advice=f"make a new key; if it was revoked by mistake, take it out of {folder / 'revoked'}",
        )
    path = folder / f"{hashlib.sha256(key.blob).hexdigest()[:16]}.pub"
    files.replace(path, key.line.encode() + b"\n")
    return path


def distrust(fingerprint: str) -> None:
    """Trust a key no more. Raises InputError where it is not trusted, or where its file holds others too."""
    for path in sorted(own_folder().glob("*.pub")):
        keys = read_keys(path)
        if fingerprint not in {key.fingerprint for key in keys}:
            continue
        if len(keys) > 1:
            raise InputError(f"{path} holds {len(keys)} keys", expected="one a file", advice=f"take it out of {path}")
        path.unlink()
        return
    raise InputError(f"{fingerprint[:80]} is not trusted here", advice="edgepack trust list")


def revoke(fingerprint: str) -> None:
    """Trust a key never again, wherever it is named. Raises InputError for what is no fingerprint."""
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise InputError(f"{fingerprint[:80]!r} is no fingerprint", expected="SHA256:…, as ssh-keygen -l prints it")
    path = own_folder() / "revoked"
    known = _read_revoked(path)
    if fingerprint not in known:
        files.replace(path, "".join(f"{one}\n" for one in (*known, fingerprint)).encode())


def _read_revoked(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text()
    except FileNotFoundError:
        return ()
    found = tuple(line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#"))
    for one in found:
        if not _FINGERPRINT.fullmatch(one):
            raise InputError(f"{path}: {one[:80]!r} is no fingerprint", expected="SHA256:… in every line")
    return found
