"""Signed statements of origin: made for a bundle, and held against keys."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from edgepack import bundle as bundles
from edgepack import papers, signing, sshsig
from edgepack.bundle import Bundle
from edgepack.errors import TrustError
from edgepack.papers import PublicKey
from edgepack.trust import Keyring, Signer


class Origin(Struct, frozen=True, kw_only=True):
    """A statement that a bundle brings. key: who signed it; where no key at hand did, who it says it was

    checked: whether a key at hand (a trusted one, or one that signed the bundle) made the signature
    trusted: None where no key is trusted here at all
    """

    key: str
    checked: bool
    trusted: bool | None
    revoked: bool


def envelope(bundle: Bundle, signer: Signer) -> bytes:
    """The signed statement about a bundle, its digest included. Raises TrustError where a blob of it is broken."""
    bundle.verify()
    statement = papers.statement(bundle.manifest, bundle.digest)
    return papers.envelope(statement, _paper_key(signer.key), signer.sign_exactly)


def origins(bundle: Bundle, keyring: Keyring) -> tuple[Origin, ...]:
    """The statements of origin in a bundle, held against the keys that are known here and those that signed the bundle.

    Raises TrustError where a known key is named whose signature does not hold, or one that holds is about something else;
    InputError where one is no such statement.
    """
    at_hand = {key.fingerprint: _paper_key(key) for key in (*keyring.keys, *_signers(bundle))}
    return tuple(
        _origin(bundle, f"{bundle.path}: statement of origin {manifest}", data, at_hand, keyring)
        for manifest, data in bundles.envelopes(bundle)
    )


def _origin(bundle: Bundle, where: str, data: bytes, at_hand: dict[str, PublicKey], keyring: Keyring) -> Origin:
    sealed = papers.read_envelope(data, where)
    found = sealed.signer(at_hand.values())
    if found is None:
        claims = ", ".join(sealed.claims) or "nobody"
        if any(one in at_hand for one in sealed.claims):
            raise TrustError(
                f"{where}: the signature by {claims} does not hold",
                expected="a signature over exactly this statement",
                advice="get the bundle again; do not believe what it says of its origin",
            )
        revoked = any(one in keyring.revoked for one in sealed.claims)
        return Origin(key=claims, checked=False, trusted=False, revoked=revoked)
    if not papers.is_about(sealed.payload, bundle.digest):
        raise TrustError(
            f"{where}: signed by {found.id}, and about something else",
            expected=f"a statement about {bundle.digest}",
            advice="get the bundle again; do not believe what it says of its origin",
        )
    trusted = found.id in keyring.trusted if keyring.keys else None
    return Origin(key=found.id, checked=True, trusted=trusted, revoked=found.id in keyring.revoked)


def _signers(bundle: Bundle) -> Iterable[sshsig.PublicKey]:
    return (sshsig.decode(offer.signature, str(bundle.path)).key for offer in signing.offers(bundle))


def _paper_key(key: sshsig.PublicKey) -> PublicKey:
    return PublicKey(key.fingerprint, key.raw)
