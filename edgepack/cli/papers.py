"""`edgepack card`, `edgepack sbom` and `edgepack provenance`: the papers that travel with a bundle."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from edgepack.cli.bundles import Word, bundle_of
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


def provenance(bundle: Word, json: Json = False) -> None:
    """Where it came from: an in-toto statement with SLSA provenance, as JSON with or without --json."""
    _print_paper(bundle_of(bundle), "provenance")


def _print_paper(opened: Bundle, kind: str) -> None:
    from edgepack.errors import InputError

    data = opened.document(kind)
    if data is None:
        raise InputError(
            f"{opened.path}: it holds no {kind}: it was built by an edgepack that packed none", advice="build it again"
        )
    sys.stdout.write(data.decode("utf-8", "replace").rstrip() + "\n")
