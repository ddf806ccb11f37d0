"""`edgepack inspect` and `edgepack verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.output import Json, print_json, print_table

BundlePath = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="An .edgepack file, or the same layout as a folder.")
]


def inspect(bundle: BundlePath, json: Json = False) -> None:
    """What a bundle is, what it needs to run, what it holds."""
    from edgepack.bundle import open_bundle

    opened = open_bundle(bundle)
    manifest = opened.manifest
    if json:
        print_json({"path": str(bundle), "digest": opened.digest, "signed": False, "manifest": manifest})
        return
    print_table(
        f"{manifest.name} {manifest.version} for {manifest.profile.name}, unsigned",
        ("", ""),
        [
            ("digest", opened.digest),
            ("source", f"{manifest.source.format} {manifest.source.digest}"),
            ("inputs", "; ".join(map(str, manifest.signature.inputs))),
            ("outputs", "; ".join(map(str, manifest.signature.outputs))),
            (
                "runtimes",
                "; ".join(f"{name} {wanted.version} ({wanted.provider})" for name, wanted in manifest.runtimes.items()),
            ),
            (
                "locks",
                "; ".join(f"{lock.runtime} {lock.version} py{lock.python} {lock.machine}" for lock in opened.locks),
            ),
        ],
    )
    rows = [
        (
            v.id + (" *" if v.id == manifest.default else ""),
            f"{v.size / 1e3:.1f}",
            "–" if v.score is None else f"{v.score:.4f}",
            f"{v.parity.sqnr_db:.1f}",
            v.digest[:19],
        )
        for v in manifest.variants
    ]
    print_table("\nvariants (* default)", ("variant", "KB", "score", "SQNR dB", "digest"), rows)


def verify(bundle: BundlePath, json: Json = False) -> None:
    """Check every digest of a bundle. Exit 6 where one does not hold."""
    from edgepack.bundle import open_bundle

    opened = open_bundle(bundle)
    opened.verify()
    if json:
        print_json({"path": str(bundle), "digest": opened.digest, "digests": "ok", "signed": False})
    else:
        print(f"{bundle}: every digest holds; unsigned")
