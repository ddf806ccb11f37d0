"""Frameworks talk on standard output, which belongs to one JSON document: keep them quiet while they work."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO

_TAIL_BYTES = 16 * 1024


@contextmanager
def quiet() -> Iterator[None]:
    """Send whatever is written to file descriptors 1 and 2 (C++ included) and every Python warning into a scratch file.

    With `EDGEPACK_DEBUG=1` the last 16 KiB of it are printed on standard error when the block raises. Who shows progress
    meanwhile must write to a duplicate of descriptor 2 taken before. Nests; not for two threads at once.
    """
    with tempfile.TemporaryFile() as scratch:
        try:
            with _redirected(scratch), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BaseException:
            if os.environ.get("EDGEPACK_DEBUG") == "1":
                sys.stderr.write(_tail(scratch))
                sys.stderr.flush()
            raise


@contextmanager
def _redirected(scratch: IO[bytes]) -> Iterator[None]:
    _flush()
    saved = [os.dup(1), os.dup(2)]
    try:
        for descriptor in (1, 2):
            os.dup2(scratch.fileno(), descriptor)
        # sys.stdout need not be descriptor 1: a test runner or a notebook puts its own there.
        text = os.fdopen(os.dup(scratch.fileno()), "w", buffering=1, errors="replace")
        with text, redirect_stdout(text), redirect_stderr(text):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C's printf still holds would otherwise come out after the switch back
        for descriptor, original in zip((1, 2), saved, strict=True):
            os.dup2(original, descriptor)
            os.close(original)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _tail(scratch: IO[bytes]) -> str:
    size = scratch.seek(0, os.SEEK_END)
    scratch.seek(max(0, size - _TAIL_BYTES))
    return scratch.read().decode(errors="replace")
