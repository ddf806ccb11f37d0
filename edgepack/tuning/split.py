"""The evaluation set in two: one half for the search to see, one that it never sees."""

from __future__ import annotations

import numpy as np

from edgepack import digest
from edgepack.errors import InputError
from edgepack.samples import Samples

LEAST = 20


def halves(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Two halves without a sample in common, the same for the same seed; integer labels are spread evenly over both.

    Raises InputError for fewer than 20 samples: half of so few says nothing.
    """
    count = len(samples)
    if count < LEAST:
        raise InputError(
            f"{count} evaluation samples cannot be halved",
            expected=f"at least {LEAST}: the search scores on one half, the result on the other",
            advice="more evaluation data",
        )
    order = np.random.default_rng(seed).permutation(count)
    labels = samples.labels
    if labels is not None and labels.ndim == 1 and np.issubdtype(labels.dtype, np.integer):
        order = order[np.argsort(labels[order], kind="stable")]
    return _part(samples, order[0::2], f"search {seed}"), _part(samples, order[1::2], f"held out {seed}")


def _part(samples: Samples, chosen: np.ndarray, which: str) -> Samples:
    index = np.sort(chosen)
    labels = None if samples.labels is None else samples.labels[index]
    inputs = tuple(array[index] for array in samples.inputs)
    return Samples(inputs, labels, digest.of_value((samples.digest, which)))
