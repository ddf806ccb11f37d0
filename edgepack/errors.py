"""Everything that can go wrong, one class an exit code, each with what was expected and what to do next.

Three families, after ir-py and cibuildwheel: the user's data (3, 4), the environment (2, 5, 6), our bug (70).
Only `edgepack.cli` catches them; nothing below it catches `Exception`.
"""

from __future__ import annotations

from typing import ClassVar


class EdgepackError(Exception):
    """An error with advice.

    `what` names the file, key or board and what happened; `expected` what would have been right; `advice` what to do next.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, what: str, *, expected: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.advice = advice

    def __str__(self) -> str:
        lines = [self.what]
        if self.expected:
            lines.append(f"expected: {self.expected}")
        if self.advice:
            lines.append(f"try: {self.advice}")
        return "\n".join(lines)


class UsageError(EdgepackError):
    """The command was called wrongly, or an extra it needs is not installed."""

    exit_code = 2


class InputError(EdgepackError):
    """The user's data, model, profile or bundle is wrong."""

    exit_code = 3


class InexpressibleError(InputError):
    """A model holds something a format cannot express; other formats may still do."""


class GateError(EdgepackError):
    """A gate was not met: accuracy, latency, health or a regression."""

    exit_code = 4


class BoardError(EdgepackError):
    """A board or the network failed."""

    exit_code = 5


class TrustError(EdgepackError):
    """A signature, digest or host key is not trusted."""

    exit_code = 6


class BugError(EdgepackError):
    """A state that our own code promised cannot occur."""

    exit_code = 70


def missing_extra(package: str, extra: str, purpose: str) -> UsageError:
    """The error for a framework that is not installed."""
    return UsageError(
        f"{purpose} needs the package {package!r}, which is not installed",
        expected=f"edgepack installed with its extra [{extra}]",
        advice=f"pip install 'edgepack[{extra}]'",
    )
