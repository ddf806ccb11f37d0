"""Steps that were done before: a folder an entry under `$EDGEPACK_HOME/cache/steps`, keyed by all that decides its content."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edgepack import digest
from edgepack.digest import Digest
from edgepack.home import home


def entry(key: Digest, make: Callable[[Path], None]) -> Path:
    """The folder of `key`, made by `make(folder)` unless it is there. Whole or absent, also when two builds race."""
    place = home() / "cache" / "steps" / digest.hex_of(key)
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".making.") as folder:
        fresh = Path(folder) / "entry"
        fresh.mkdir()
        make(fresh)
        try:
            fresh.rename(place)
        except OSError:
            if not place.is_dir():  # else another build was first: the same key holds the same content
                raise
    return place


@cache
def code_digest() -> Digest:
    """Of edgepack's own code that decides what a step produces: a step that changed is done again."""
    package = Path(__file__).parent.parent
    rooms = ("convert", "compress", "evaluate", "runtimes", "sources", "pipeline")
    return digest.of_value(
        [
            sorted((str(p.relative_to(package)), digest.of_file(p)) for p in (package / room).rglob("*.py"))
            for room in rooms
        ]
    )
