"""What a model is asked while it is measured: the release's golden samples, or seeded noise."""

from __future__ import annotations

from typing import Any, List

from . import run as models


def ensure_batch(session: models.Session, batch: int) -> None:
    """Raises ModelError where the model's file says that it takes another number of samples at once."""
    for tensor in session.inputs:
        if batch > 1 and tensor.shape and tensor.shape[0] not in (None, batch):
            raise models.ModelError(
                f"--batch {batch}: the first axis of input {tensor.name!r} is fixed at {tensor.shape[0]}; "
                "only a model that leaves it open takes several samples in one inference"
            )


def golden(session: models.Session, file: str, batch: int = 1) -> List[List[Any]]:
    """The golden samples, `batch` of them at a time, as the model stores them. Raises ModelError where it takes no such batch."""
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        inputs = [arrays[f"input_{index}"] for index in range(len(session.inputs))]
    count = len(inputs[0])
    rows = [[(start + offset) % count for offset in range(batch)] for start in range(count)]
    return [session.stored([np.ascontiguousarray(array[row]) for array in inputs]) for row in rows]


def seeded(session: models.Session, batch: int = 1) -> List[List[Any]]:
    """One set of seeded noise: floats of a standard normal, integers zero or one so that they index any table."""
    import numpy as np

    random = np.random.default_rng(0)
    arrays = []
    for tensor in session.inputs:
        shape = tuple(1 if size is None else size for size in tensor.shape)
        if batch > 1:
            shape = (batch, *shape[1:])
        kind = np.dtype(tensor.dtype)
        noise = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        arrays.append(noise.astype(kind))
    return [session.stored(arrays)]
