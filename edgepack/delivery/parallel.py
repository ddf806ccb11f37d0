"""Many targets at once, one line of progress each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from edgepack.ports import Progress
from edgepack.target import Target

_AT_ONCE = 16
R = TypeVar("R")
T = TypeVar("T")


class Own:
    """Progress of one target: its name before every line. Among several its steps stay unseen: a terminal shows one bar."""

    def __init__(self, target: str, progress: Progress, alone: bool) -> None:
        self._target, self._progress, self._alone = target, progress, alone

    def step(self, title: str) -> AbstractContextManager[None]:
        return self._progress.step(f"{self._target}: {title}") if self._alone else nullcontext()

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        return self._progress.track(items, f"{self._target}: {title}", total) if self._alone else iter(items)

    def note(self, message: str) -> None:
        self._progress.note(f"{self._target}: {message}")

    def warn(self, message: str) -> None:
        self._progress.warn(f"{self._target}: {message}")


def each(
    targets: Sequence[Target], title: str, job: Callable[[Target, Progress], R], progress: Progress
) -> tuple[R, ...]:
    """`job` for every target, at most 16 at once; the results in the targets' order."""
    if len(targets) == 1:
        return (job(targets[0], Own(targets[0].name, progress, alone=True)),)
    results: dict[int, R] = {}
    with ThreadPoolExecutor(max(1, min(_AT_ONCE, len(targets))), "target") as pool:
        jobs = {
            pool.submit(job, target, Own(target.name, progress, alone=False)): index
            for index, target in enumerate(targets)
        }
        for done in progress.track(as_completed(jobs), title, total=len(jobs)):
            results[jobs[done]] = done.result()
    return tuple(results[index] for index in range(len(targets)))
