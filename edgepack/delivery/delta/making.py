"""Making candidates: files under `$EDGEPACK_HOME/deltas`, each made once for all boards and tries."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack import digest
from edgepack.delivery.delta import decide
from edgepack.delivery.delta.align import Layout, align
from edgepack.delivery.delta.decide import Case
from edgepack.delivery.delta.encode import Codec, Recipe, encode, prepare
from edgepack.delivery.delta.tensors import locate
from edgepack.digest import Digest
from edgepack.home import home

_KEPT_SECONDS = 7 * 86400.0
_KEPT_BYTES = 512 << 20


@dataclass(frozen=True)
class Blob:
    """A blob that this host has. open: a fresh seekable stream of it"""

    digest: Digest
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True)
class Payload:
    """A candidate: a file whose digest is `digest`; base: what it needs on the board, empty where it needs nothing."""

    path: Path
    digest: Digest
    size: int
    base: str

    def open(self) -> BinaryIO:
        return self.path.open("rb")


class Workshop:
    """Candidates for the blobs of one push, shared by all its targets."""

    def __init__(self) -> None:
        self._one_at_a_time = threading.Lock()

    def known(self, new: Digest) -> tuple[Payload, ...]:
        """The candidates for a blob that were made before."""
        return tuple(_named(path) for path in sorted(_folder().glob(f"{digest.hex_of(new)}.*")))

    def make(self, new: Blob, old: Blob | None, left: int, rate: float, codecs: tuple[str, ...]) -> Payload | None:
        """The smallest of the candidates that are worth making, or None where the whole is.

        left: bytes of the whole that the board lacks; rate: bytes a second; codecs: that the board unpacks
        """
        with self._one_at_a_time, ExitStack() as stack:
            file = stack.enter_context(new.open())
            base = stack.enter_context(old.open()) if old else None
            recipe = _recipe(new, file, old, base)
            wanted = decide.worth(Case(new.size, left, recipe.estimate, rate, codecs))
            made = [self._one(recipe, codec, new, file, base) for codec in wanted]
            return decide.smallest([(one.size, one) for one in made], left)

    def _one(self, recipe: Recipe, codec: Codec, new: Blob, file: BinaryIO, base: BinaryIO | None) -> Payload:
        against = digest.hex_of(recipe.base) if recipe.base else "none"
        for payload in self.known(new.digest):
            if payload.path.name.split(".")[1:3] == [against, codec]:
                return payload
        _clear()
        with tempfile.NamedTemporaryFile(dir=_folder(), prefix=".", delete=False) as out:
            fresh = Path(out.name)
            try:
                out.writelines(encode(recipe, codec, file, base))
                out.close()
                name = ".".join((digest.hex_of(new.digest), against, codec, digest.hex_of(digest.of_file(fresh))))
                return _named(fresh.rename(_folder() / name))
            finally:
                fresh.unlink(missing_ok=True)


def _folder() -> Path:
    folder = home() / "deltas"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _named(path: Path) -> Payload:
    _, against, _, own = path.name.split(".")
    base = "" if against == "none" else f"sha256:{against}"
    return Payload(path, Digest(f"sha256:{own}"), path.stat().st_size, base)


def _clear() -> None:
    """Candidates are for the next tries and the next boards of a fleet, not for ever."""
    left = _KEPT_BYTES
    for path in sorted(_folder().iterdir(), key=lambda one: one.stat().st_mtime, reverse=True):
        left -= path.stat().st_size
        if left < 0 or time.time() - path.stat().st_mtime > _KEPT_SECONDS:
            path.unlink(missing_ok=True)


def _recipe(new: Blob, file: BinaryIO, old: Blob | None, base: BinaryIO | None) -> Recipe:
    ours = Layout(locate(file, new.size), new.size)
    theirs = Layout(locate(base, old.size), old.size) if old and base else None
    return prepare(align(ours, theirs), new.size, file, base, old.digest if old else None)
