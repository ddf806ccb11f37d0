"""`edgepack sign`, `edgepack verify` and `edgepack trust list|add|remove|revoke`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepack.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from edgepack.admission import Offer, Policy
    from edgepack.attesting import Origin
    from edgepack.bundle import Bundle
    from edgepack.signing import Terms
    from edgepack.trust import Signer

app = typer.Typer(help="Keys whose signatures count here.", no_args_is_help=True, rich_markup_mode=None)

_KEY = "An OpenSSH private key (Ed25519), or a .pub file whose private half ssh-agent holds."
SignKey = Annotated[Path | None, typer.Option(help=_KEY)]
Expires = Annotated[
    str,
    typer.Option(help="How long the signature may be used to install the bundle: 12h, 90d, 8w (default: for ever)."),
]
For = Annotated[
    list[str] | None,
    typer.Option(
        "--for", metavar="TARGET", help="Only for this device, or an expression over labels (repeat for several)."
    ),
]
Downgrade = Annotated[
    str,
    typer.Option(
        "--allows-downgrade-from",
        metavar="VERSION",
        help="Boards that ran at most this version may go back to this one.",
    ),
]
TrustKeys = Annotated[
    list[Path] | None,
    typer.Option("--trust-key", metavar="PUB", help="A .pub file or OpenSSH's allowed_signers (repeat for several)."),
]


@dataclass(frozen=True)
class Seal:
    """With what a bundle is signed, and what that allows."""

    signer: Signer
    terms: Terms

    def put_on(self, bundle: Bundle, *, beside: bool = False) -> Bundle:
        from edgepack import signing

        return signing.sign(bundle, self.signer, self.terms, beside=beside)


def seal(key: Path | None, expires: str, targets: list[str] | None, allows_downgrade_from: str) -> Seal | None:
    """The key is opened before any work begins: a wrong passphrase must not cost a build."""
    from edgepack.errors import UsageError

    if key is None:
        if expires or targets or allows_downgrade_from:
            raise UsageError(
                "--expires, --for and --allows-downgrade-from say what a signature allows",
                expected="--sign-key KEY with them",
            )
        return None
    from edgepack import signing, trust

    terms = signing.terms(expires, targets or (), allows_downgrade_from)
    return Seal(trust.load_signer(key, _ask), terms)


def _ask(prompt: str) -> str:
    """A passphrase, from the terminal."""
    import getpass

    from edgepack.errors import InputError

    try:
        with Path("/dev/tty").open():
            return getpass.getpass(prompt)
    except (OSError, EOFError):
        raise InputError(
            f"{prompt.rstrip(': ')} is needed, and there is no terminal to ask on",
            expected="a key that ssh-agent holds",
            advice="ssh-add KEY, and --sign-key KEY.pub",
        ) from None


def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An .edgepack file, or its layout as a folder.")],
    sign_key: Annotated[Path, typer.Option(help=_KEY)],
    expires: Expires = "",
    targets: For = None,
    allows_downgrade_from: Downgrade = "",
    add: Annotated[
        bool, typer.Option("--add", help="Keep the signatures that it has, e.g. while keys change.")
    ] = False,
    json: Json = False,
) -> None:
    """Sign a bundle. Its digest stays what it is; signatures that it had are replaced."""
    from edgepack.bundle import open_bundle

    found = seal(sign_key, expires, targets, allows_downgrade_from)
    assert found is not None
    signed = found.put_on(open_bundle(bundle), beside=add)
    if json:
        print_json({"path": str(bundle), "digest": signed.digest, "signatures": signatures(signed)})
    else:
        print(f"{bundle}: signed by {found.signer.key.fingerprint}")


def verify(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="What `inspect` takes.")],
    trust_key: TrustKeys = None,
    allow_unsigned: Annotated[bool, typer.Option("--allow-unsigned", help="Digests alone are enough.")] = False,
    json: Json = False,
) -> None:
    """Check every digest of a bundle, and who signed it. Exit 6 where something does not hold, or no trusted key signed it.

    Trusted are the keys given, or else those of `edgepack trust list`; without any it only says who signed.
    """
    from edgepack import attesting, signing, trust
    from edgepack.cli.bundles import bundle_of

    opened = bundle_of(bundle)
    keyring = trust.load_keyring(trust_key or ())
    policy = signing.policy(keyring)
    verdict = signing.examine(opened, policy, allow_unsigned=allow_unsigned)
    document = {"path": str(bundle), "digest": opened.digest, "digests": "ok", "assurance": verdict.assurance}
    origins = attesting.origins(opened, keyring)
    if json:
        found = signatures(opened, policy)
        print_json({**document, "key": verdict.key, "signatures": found, "provenance": origins})
        return
    print(f"{bundle}: every digest holds; {summary(opened, policy)}")
    for one in origins:
        print(f"origin {origin_line(one)}")


def origin_line(origin: Origin) -> str:
    """Who signed a statement of origin, in a few words."""
    if origin.revoked:
        return f"signed by {origin.key}, which was revoked"
    if not origin.checked:
        return f"said to be signed by {origin.key or 'nobody'} (not checked: that key is not known here)"
    known = {None: "held against no key: none is trusted here", True: "trusted", False: "not among the trusted keys"}
    return f"signed by {origin.key} ({known[origin.trusted]})"


def summary(bundle: Bundle, policy: Policy | None = None) -> str:
    """Who signed a bundle, in one line."""
    from edgepack import signing

    found = [_line(offer, policy) for offer in signing.offers(bundle)]
    return "; ".join(found) or "unsigned"


def _line(offer: Offer, policy: Policy | None) -> str:
    record = offer.record
    trusted = ""
    if policy is not None:
        trusted = " (trusted)" if offer.signer in policy.trusted else " (not among the trusted keys)"
        trusted = " (held against no key: none is trusted here)" if not policy.required else trusted
    until = f", good until {record.expires}" if record.expires else ""
    scope = f", only for {' or '.join(record.targets)}" if record.targets else ""
    back = f", allows to go back from {record.allows_downgrade_from}" if record.allows_downgrade_from else ""
    return f"signed by {offer.signer}{trusted} at {record.issued}{until}{scope}{back}"


def signatures(bundle: Bundle, policy: Policy | None = None) -> list[dict[str, Any]]:
    """The signatures of a bundle as `--json` prints them."""
    from edgepack import signing

    return [
        {
            "key": offer.signer,
            "trusted": offer.signer in policy.trusted if policy else None,
            "revoked": offer.signer in policy.revoked if policy else None,
            "record": offer.record,
        }
        for offer in signing.offers(bundle)
    ]


@app.command("list")
def list_(json: Json = False) -> None:
    """The keys that are trusted here, and those that were revoked."""
    from edgepack import trust

    keyring = trust.load_keyring()
    if json:
        keys = [
            {"fingerprint": k.fingerprint, "comment": k.comment}
            for k in keyring.keys
            if k.fingerprint in keyring.trusted
        ]
        print_json({"keys": keys, "revoked": keyring.revoked})
        return
    rows = [(key.fingerprint, "trusted", key.comment) for key in keyring.keys if key.fingerprint in keyring.trusted]
    print_table("", ("key", "", "comment"), [*rows, *((one, "revoked", "") for one in keyring.revoked)])


@app.command("add")
def add_key(
    keys: Annotated[list[Path], typer.Argument(metavar="PUB…", help="A .pub file, or OpenSSH's allowed_signers.")],
) -> None:
    """Trust keys from now on: `push` and `verify` then take nothing that none of them signed."""
    from edgepack import trust

    for key in [key for path in keys for key in trust.read_keys(path)]:
        trust.trust(key)
        print(f"{key.fingerprint}: trusted here from now on")


@app.command("remove")
def remove_key(key: Annotated[str, typer.Argument(metavar="KEY", help="A fingerprint, or a .pub file.")]) -> None:
    """Trust a key no more, for now. `revoke` is for one that was lost or stolen."""
    from edgepack import trust

    for one in fingerprints(key):
        trust.distrust(one)
        print(f"{one}: not trusted here any more")


@app.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(metavar="KEY", help="A fingerprint, or a .pub file.")]) -> None:
    """Trust a key never again. `edgepack target enrol` tells the boards."""
    from edgepack import trust

    for one in fingerprints(key):
        trust.revoke(one)
        print(f"{one}: revoked; tell each board: edgepack target enrol NAME")


def fingerprints(word: str) -> tuple[str, ...]:
    """Of a fingerprint itself, or of the keys in a file."""
    from edgepack import trust

    return (word,) if word.startswith("SHA256:") else tuple(key.fingerprint for key in trust.read_keys(Path(word)))
