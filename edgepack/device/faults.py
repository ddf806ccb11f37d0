"""What an agent refuses, in the words of the host's errors: a kind, what happened, what was expected, what to do."""

from __future__ import annotations


class Fault(Exception):
    """kind: `input`, `gate`, `board` or `trust`, the host's family of errors with that exit code."""

    def __init__(self, kind: str, what: str, expected: str = "", advice: str = "") -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.expected = expected
        self.advice = advice
