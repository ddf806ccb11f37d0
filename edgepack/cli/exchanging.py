"""`edgepack publish` and `edgepack fetch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.output import Json, print_json

PlainHttp = Annotated[
    bool, typer.Option("--plain-http", help="http without TLS to another machine (to this one it is always allowed).")
]


def publish(
    bundle: Word,
    to: Annotated[str, typer.Argument(metavar="REGISTRY/REPOSITORY:TAG", help="Where it goes, for others to fetch.")],
    plain_http: PlainHttp = False,
    json: Json = False,
) -> None:
    """Put a bundle, its signatures and statements of its origin into an OCI registry. What is there already is not sent again."""
    from edgepack import exchange, references
    from edgepack.cli.progress import progress

    done = exchange.publish(bundle_of(bundle), references.registry(to), plain_http=plain_http, progress=progress())
    if json:
        print_json(done)
    elif done.unchanged:
        print(f"{done.reference}: unchanged, the registry holds all of it")
    else:
        signed = f", {done.signatures} signatures" if done.signatures else ", unsigned"
        signed += f", {done.attestations} signed statements of origin" if done.attestations else ""
        print(f"{done.reference}: {done.sent} blobs sent ({done.bytes / 1e6:.2f} MB), {done.had} were there{signed}")


def fetch(
    of: Annotated[str, typer.Argument(metavar="REGISTRY/REPOSITORY:TAG", help="Or …@sha256:… for exactly one.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder to write an .edgepack file to.")] = None,
    plain_http: PlainHttp = False,
    json: Json = False,
) -> None:
    """Bring a bundle from an OCI registry into the local store, every digest checked."""
    from edgepack import bundle, exchange, references
    from edgepack.cli.progress import progress

    done = exchange.fetch(references.registry(of), plain_http=plain_http, progress=progress())
    path = done.entry.path
    if out is not None:
        path = bundle.export(bundle.open_bundle(path), out).path
    if json:
        print_json(
            {
                "reference": done.reference,
                "path": str(path),
                "digest": done.entry.digest,
                "name": done.entry.name,
                "version": done.entry.version,
                "profile": done.entry.profile,
                "received": done.received,
                "had": done.had,
                "bytes": done.bytes,
                "signatures": done.signatures,
                "attestations": done.attestations,
            }
        )
        return
    signed = f"{done.signatures} signatures, not yet checked" if done.signatures else "unsigned"
    signed += f", {done.attestations} signed statements of origin" if done.attestations else ""
    print(f"{path}\n{done.received} blobs received ({done.bytes / 1e6:.2f} MB), {done.had} were here; {signed}")
    print(f"{done.entry.name}@{done.entry.version}/{done.entry.profile} in the store; {done.reference}")
