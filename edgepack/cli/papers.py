"""`edgepack card`, `edgepack sbom` and `edgepack provenance`: the papers that travel with a bundle."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.exchanging import PlainHttp
from edgepack.cli.output import Json, print_json

if TYPE_CHECKING:
    from edgepack.bundle import Bundle


def card(bundle: Word, json: Json = False) -> None:
    """The model card: scores, drops, sizes, the data used, the limits, the intended device. Markdown."""
    from edgepack import papers

    opened = bundle_of(bundle)
    packed = opened.document("card")
    text = packed.decode("utf-8", "replace") if packed is not None else papers.render_card(opened.manifest)
    if json:
        print_json({"digest": opened.digest, "packed": packed is not None, "card": text})
    else:
        sys.stdout.write("".join(c if c.isprintable() or c == "\n" else "?" for c in text))


def sbom(bundle: Word, json: Json = False) -> None:
    """The bill of materials: CycloneDX 1.6, as JSON with or without --json."""
    _print_paper(bundle_of(bundle), "sbom")


def provenance(
    bundle: Word,
    sign_key: Annotated[
        Path | None,
        typer.Option(help="Print a DSSE envelope, signed with this OpenSSH key (Ed25519; a .pub: the agent's)."),
    ] = None,
    attach: Annotated[
        bool,
        typer.Option("--attach", help="Put the envelope into the bundle too, or to it in its registry, as a referrer."),
    ] = False,
    plain_http: PlainHttp = False,
    json: Json = False,
) -> None:
    """Where it came from: an in-toto statement with SLSA provenance, as JSON with or without --json.

    Signed, the statement is about the bundle's digest as well, and any tool that reads DSSE can check it.
    """
    from edgepack import attesting, exchange, references
    from edgepack.bundle import attest
    from edgepack.cli.progress import progress
    from edgepack.cli.trusting import seal
    from edgepack.errors import UsageError

    if sign_key is None:
        if attach:
            raise UsageError("--attach attaches a signed statement", expected="--sign-key KEY with it")
        return _print_paper(bundle_of(bundle), "provenance")
    sealing = seal(sign_key, "", None, "")
    assert sealing is not None
    opened = bundle_of(bundle, plain_http=plain_http)
    data = attesting.envelope(opened, sealing.signer)
    if attach:
        signed = attest(opened, data)
        where = references.parse(bundle)
        if isinstance(where, references.InRegistry):
            exchange.publish(signed, where, plain_http=plain_http, progress=progress())
        print(f"{bundle}: its origin, signed by {sealing.signer.key.fingerprint}, is attached", file=sys.stderr)
    sys.stdout.write(data.decode() + "\n")
    return None


def _print_paper(opened: Bundle, kind: str) -> None:
    from edgepack.errors import InputError

    data = opened.document(kind)
    if data is None:
        raise InputError(
            f"{opened.path}: it holds no {kind}: it was built by an edgepack that packed none", advice="build it again"
        )
    sys.stdout.write(data.decode("utf-8", "replace").rstrip() + "\n")
