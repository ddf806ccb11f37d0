"""Progress on standard error: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

T = TypeVar("T")


class Terminal:
    """Bars and spinners by rich. Steps that end within a second leave one line."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=_own_stderr(), force_terminal=True, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        start = time.perf_counter()
        with self._console.status(title):
            yield
        self._console.print(f"[green]✓[/] {title} [dim]{time.perf_counter() - start:.1f} s[/]")

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield from bar.track(items, description=title, total=total)

    def note(self, message: str) -> None:
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", style="yellow", markup=False)


class Plain:
    """One line a step: for logs and scripts."""

    def __init__(self) -> None:
        self._file = _own_stderr()

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.note(f"{title} ({time.perf_counter() - start:.1f} s)")

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        start = time.perf_counter()
        yield from items
        if (seconds := time.perf_counter() - start) >= 1:
            self.note(f"{title} ({seconds:.1f} s)")

    def note(self, message: str) -> None:
        print(message, file=self._file, flush=True)

    def warn(self, message: str) -> None:
        self.note(f"warning: {message}")


def _own_stderr() -> TextIO:
    """A duplicate of standard error: frameworks that are kept quiet have the original redirected while they work."""
    return os.fdopen(os.dup(2), "w", buffering=1)


def progress() -> Terminal | Plain:
    return Terminal() if sys.stderr.isatty() else Plain()
