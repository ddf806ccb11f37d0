"""Progress on standard error: a bar on a terminal, a line a step elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TextIO, TypeVar

T = TypeVar("T")


class Terminal:
    """One live line by rich: the innermost step, or a bar. What has ended leaves a line above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(file=own_stderr(), force_terminal=True, highlight=False)
        self._titles: list[str] = []
        self._status = self._console.status("")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        start = time.perf_counter()
        self._show(title)
        try:
            yield
        finally:
            self._forget()
        indent = "  " * len(self._titles)
        self._console.print(f"{indent}[green]✓[/] {escape(title)} [dim]{time.perf_counter() - start:.1f} s[/]")

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        count = len(items) if total is None and isinstance(items, Sized) else total
        start = time.perf_counter()
        self._show(title)
        try:
            for index, item in enumerate(items):
                self._titles[-1] = f"{title} {_bar(index, count)}{_left(index, count, time.perf_counter() - start)}"
                self._status.update(self._line())
                yield item
        finally:
            self._forget()

    def note(self, message: str) -> None:
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", style="yellow", markup=False)

    def _show(self, title: str) -> None:
        self._titles.append(title)
        self._status.update(self._line())
        if len(self._titles) == 1:
            self._status.start()

    def _forget(self) -> None:
        self._titles.pop()
        if self._titles:
            self._status.update(self._line())
        else:
            self._status.stop()

    def _line(self) -> str:
        return escape(" › ".join(self._titles))


def _bar(done: int, count: int | None) -> str:
    if not count:
        return str(done)
    filled = round(20 * done / count)
    return f"{'━' * filled}{'╌' * (20 - filled)} {done}/{count}"


def _left(done: int, count: int | None, seconds: float) -> str:
    """How long the rest takes if it goes on as it went."""
    if not done or not count:
        return ""
    minutes, rest = divmod(round(seconds / done * (count - done)), 60)
    return f", about {minutes}:{rest:02d} left"


class Plain:
    """One line a step: for logs and scripts."""

    def __init__(self) -> None:
        self._file = own_stderr()

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


def escape(text: str) -> str:
    """Brackets are markup to rich."""
    return text.replace("[", "\\[")


def own_stderr() -> TextIO:
    """A duplicate of standard error: frameworks that are kept quiet have the original redirected while they work."""
    return os.fdopen(os.dup(2), "w", buffering=1, closefd=False)  # as long as the process: nobody is there to close it


def progress() -> Terminal | Plain:
    return Terminal() if sys.stderr.isatty() else Plain()
