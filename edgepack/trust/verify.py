"""The check of a signature, by the `cryptography` library."""

from __future__ import annotations

from edgepack import sshsig
from edgepack.errors import TrustError
from edgepack.sshsig import PublicKey


def check_signature(message: bytes, armored: str, where: str, namespace: str = sshsig.NAMESPACE) -> PublicKey:
    """The key whose signature over `message` holds; whether to trust that key is another question.

    Raises TrustError naming `where`: the signature is garbled, made for another purpose, or does not hold.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = sshsig.decode(armored, where, namespace)
    try:
        key = Ed25519PublicKey.from_public_bytes(found.key.raw)
        key.verify(found.signature, sshsig.signed_bytes(message, found.hash, found.namespace))
    except (InvalidSignature, ValueError):
        raise TrustError(
            f"{where}: the signature by {found.key.fingerprint} does not hold",
            expected="a signature over exactly this record",
            advice="get the bundle again; do not use it as it is",
        ) from None
    return found.key
