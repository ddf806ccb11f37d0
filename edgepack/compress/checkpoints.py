"""Where a training stands, at the end of an epoch, so that one which was killed goes on and ends where it would have."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from edgepack import files
from edgepack.errors import InputError

State = dict[str, Any]


@dataclass(frozen=True)
class Standing:
    """epochs: that are over; batches: seen in all; per_epoch: of them; goal: what is trained for, read off the first batch

    best: the least loss on held-out samples, with its epoch and weights; None where training does not stop early
    """

    epochs: int
    batches: int
    per_epoch: int
    goal: str
    student: State
    optimizer: State
    best_loss: float | None = None
    best_epoch: int = 0
    best: State | None = None

    def to_bytes(self) -> bytes:
        import torch

        out = io.BytesIO()
        torch.save(asdict(self), out)
        return out.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Standing:
        import torch

        return Standing(**torch.load(io.BytesIO(data), weights_only=True))


def save(path: Path, standing: Standing) -> None:
    """Whole or not at all, also when the machine loses power meanwhile."""
    files.replace(path, standing.to_bytes())


def load(path: Path) -> Standing | None:
    """The checkpoint at `path`, None where there is none. Raises InputError for a file that is none."""
    if not path.is_file():
        return None
    try:
        return Standing.from_bytes(path.read_bytes())
    except (UnpicklingError, RuntimeError, TypeError, ValueError, EOFError, OSError, KeyError) as error:
        raise InputError(
            f"the checkpoint {path} cannot be read: {str(error).splitlines()[0]}",
            advice=f"remove {path}: training then starts anew",
        ) from error
