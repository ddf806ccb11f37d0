"""The protocols through which floors meet: what a loaded model can do, how an agent is asked, who hears of progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from edgepack.model import Model
from edgepack.samples import Run

T = TypeVar("T")
Reply = TypeVar("Reply", bound=Struct)
Heard = Callable[[bytes], None]
"""Told each line of JSON that an agent says before its answer, while it works."""


@dataclass(frozen=True)
class TorchNative:
    """module: an `nn.Module` in eval mode that takes the signature's inputs positionally.

    exported: the `ExportedProgram` where that is what the user gave; trainable: False for what cannot be pruned or trained
    (an exported program, a TorchScript file)
    """

    module: Any
    exported: Any | None = None
    trainable: bool = True


@dataclass(frozen=True)
class KerasNative:
    """model: a `keras.Model` (a SavedModel arrives wrapped as one, or as a concrete function in `saved`)."""

    model: Any
    saved: Path | None = None


@dataclass(frozen=True)
class OnnxNative:
    path: Path


@dataclass(frozen=True)
class TfliteNative:
    path: Path


Native = TorchNative | KerasNative | OnnxNative | TfliteNative


@dataclass(frozen=True)
class Loaded:
    """A model in memory: what is known of it, the framework's own object, and a way to ask it in its own runtime."""

    model: Model
    native: Native
    run: Run


class Progress(Protocol):
    """Who hears how far a long piece of work is. On a terminal a bar or a line, else a line at the end."""

    def step(self, title: str) -> AbstractContextManager[None]: ...

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]: ...

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Silent:
    """Progress that nobody hears: what scripts get unless they give another."""

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        yield

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        return iter(items)

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Agent(Protocol):
    """One board's agent over an open connection: a verb with a typed request, answered by a typed reply.

    heard: told what the agent says while it works, on the thread that called
    Raises BoardError (unreachable, died, deadline) or the error class that the agent's refusal names.
    """

    def call(
        self, verb: str, request: Struct, reply: type[Reply], deadline: float, heard: Heard | None = None
    ) -> Reply: ...
