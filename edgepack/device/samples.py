"""What a model is asked while it is measured: the release's golden samples, or seeded noise."""

from __future__ import annotations

from typing import Any, List

from . import run as models


def golden(session: models.Session, file: str) -> List[List[Any]]:
    """The golden samples one at a time, as the model stores them."""
    import numpy as np

    with np.load(file, allow_pickle=False) as arrays:
        inputs = [arrays[f"input_{index}"] for index in range(len(session.inputs))]
    return [session.stored([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]


def seeded(session: models.Session) -> List[List[Any]]:
    """One set of seeded noise: floats of a standard normal, integers zero or one so that they index any table."""
    import numpy as np

    random = np.random.default_rng(0)
    arrays = []
    for tensor in session.inputs:
        shape = tuple(1 if size is None else size for size in tensor.shape)
        kind = np.dtype(tensor.dtype)
        noise = random.standard_normal(shape) if kind.kind == "f" else random.integers(0, 2, shape)
        arrays.append(noise.astype(kind))
    return [session.stored(arrays)]
