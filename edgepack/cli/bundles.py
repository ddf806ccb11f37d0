"""`edgepack inspect`, and what BUNDLE means on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.output import Json, print_json, print_table
from edgepack.errors import InputError

if TYPE_CHECKING:
    from edgepack.bundle import Bundle
    from edgepack.variant import Quantizing

Word = Annotated[
    str,
    typer.Argument(
        metavar="BUNDLE",
        help="An .edgepack file or its layout as a folder; NAME@VERSION of the local store; HOST/REPOSITORY:TAG of a registry.",
    ),
]

Layers = Annotated[
    bool,
    typer.Option("--layers", help="What quantization did to each layer: noise, range, what was clipped and corrected."),
]


def bundle_of(word: str, *, plain_http: bool = False) -> Bundle:
    """The bundle that a word on the command line means, fetched where it has to be."""
    from edgepack import exchange
    from edgepack.cli.progress import progress

    return exchange.open_word(word, progress(), plain_http=plain_http)


def inspect(bundle: Word, layers: Layers = False, json: Json = False) -> None:
    """What a bundle is, what it needs to run, what it holds."""
    from edgepack import attesting, signing, trust
    from edgepack.cli.trusting import origin_line, signatures, summary

    opened = bundle_of(bundle)
    manifest = opened.manifest
    origins = attesting.origins(opened, trust.load_keyring())
    if json:
        found = signatures(opened, signing.own_policy())
        document = {"path": str(opened.path), "digest": opened.digest, "signatures": found, "manifest": manifest}
        more = {"layers": _layers_of(opened)} if layers else {}
        print_json({**document, "signed": bool(found), "provenance": origins, **more})
        return
    print_table(
        f"{manifest.name} {manifest.version} for {manifest.profile.name}, {summary(opened, signing.own_policy())}",
        ("", ""),
        [
            ("digest", opened.digest),
            ("source", f"{manifest.source.format} {manifest.source.digest}"),
            *(("origin", origin_line(one)) for one in origins),
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
    if layers:
        _print_layers(_layers_of(opened))


def _layers_of(opened: Bundle) -> tuple[Quantizing, ...]:
    """Raises InputError where the bundle says nothing of layers."""
    from edgepack import papers

    data = opened.document("layers")
    if data is None:
        raise InputError(
            f"{opened.path}: it says nothing of layers",
            expected="a bundle with variants that were quantized when it was built",
        )
    return papers.read_layers(data, str(opened.path))


def _print_layers(quantized: tuple[Quantizing, ...]) -> None:
    columns = ("layer", "kind", "SQNR dB", "cosine", "range", "clipped", "bias moved")
    for one in quantized:
        rows = [
            (
                layer.name,
                layer.kind,
                f"{layer.sqnr_db:.1f}",
                f"{layer.cosine:.5f}",
                f"{layer.low:.3g} … {layer.high:.3g}",
                f"{layer.clipped:.3%}",
                f"{layer.shift:.2%}",
            )
            for layer in one.layers
        ]
        print_table(f"\n{one.variant}: {'; '.join(one.notes)}", columns, rows)
