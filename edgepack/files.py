"""Files that are whole or not there: write aside, fsync, rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A fresh path beside `path` to write a file or a folder to; it becomes `path` if the block succeeds, else it vanishes.

    A folder at `path` is replaced only when it is empty or absent, as `os.replace` does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder) / path.name
        yield fresh
        if fresh.is_file():
            sync(fresh)
        fresh.replace(path)
    sync(path.parent)


def replace(path: Path, data: bytes) -> None:
    """`path` holds its old bytes or all of `data`, also after a power cut."""
    with aside(path) as fresh:
        fresh.write_bytes(data)


def copy(source: Path, path: Path) -> None:
    with aside(path) as fresh:
        shutil.copyfile(source, fresh)


def sync(path: Path) -> None:
    """fsync of a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
