"""Keys: those that sign (files, ssh-agent), those that are trusted or revoked, and the check of a signature."""

from edgepack.trust.keyring import Keyring, distrust, load_keyring, own_folder, read_keys, revoke, trust
from edgepack.trust.signers import Signer, load_signer
from edgepack.trust.verify import check_signature

__all__ = [
    "Keyring",
    "Signer",
    "check_signature",
    "distrust",
    "load_keyring",
    "load_signer",
    "own_folder",
    "read_keys",
    "revoke",
    "trust",
]
