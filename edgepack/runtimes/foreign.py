"""Frameworks are other people's code: imported where needed, quietly, and what they raise gets a name and advice."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from typing import Any

from edgepack.errors import EdgepackError, InexpressibleError, InputError, missing_extra
from edgepack.quiet import quiet

_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin between small layers take 10 times as long on a machine with other work
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # its fused kernels change results in the last bits from one machine to the next
    "CUDA_VISIBLE_DEVICES": "-1",
    "TOKENIZERS_PARALLELISM": "false",
}

_PASSERS_BY = {"tensorflow": ("jax",)}
"""What a framework imports only because it is installed: its TFLite converter takes jax along, 100 MB for nothing."""


def set_environment() -> None:
    """What frameworks read from the environment when they are imported, unless the user has set it."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def import_framework(module: str, extra: str, purpose: str) -> Any:
    """The module, imported without its chatter. Raises UsageError naming the extra where it is not installed."""
    if (loaded := sys.modules.get(module)) is not None:  # None stands for what may not be imported
        return loaded
    set_environment()
    try:
        with quiet(), _hidden(_PASSERS_BY.get(module, ())):
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or module, extra, purpose) from error


@contextmanager
def _hidden(modules: tuple[str, ...]) -> Iterator[None]:
    """These modules cannot be imported inside, unless they are already."""
    unseen = [module for module in modules if module not in sys.modules]
    sys.modules.update(dict.fromkeys(unseen))  # type: ignore[arg-type]  # None is what import refuses
    try:
        yield
    finally:
        for module in unseen:
            del sys.modules[module]


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """The installed versions of distributions, sorted by name."""
    return tuple(sorted((package, metadata.version(package)) for package in packages))


@contextmanager
def reading(what: str, *, expected: str = "", advice: str = "") -> Iterator[None]:
    """What a framework (or the user's code) raises inside over a user's file becomes an InputError that names it.

    The families of exceptions are theirs and open-ended, so this catches all of them, in the one place that may.
    """
    try:
        with quiet():
            yield
    except EdgepackError:
        raise
    except Exception as error:
        raise InputError(f"{what}: {first_line(error)}", expected=expected, advice=advice) from error


@contextmanager
def converting(what: str, *, advice: str = "") -> Iterator[None]:
    """As `reading`, for a conversion: what it raises becomes an InexpressibleError, so that other formats may still do."""
    try:
        with quiet():
            yield
    except EdgepackError:
        raise
    except Exception as error:
        raise InexpressibleError(f"{what}: {first_line(error)}", advice=advice) from error


def first_line(error: BaseException) -> str:
    """The innermost cause in one line: the exception's class and the first line of its message that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines()]
    said = next((line for line in lines if any(letter.isalnum() for letter in line)), "")
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
