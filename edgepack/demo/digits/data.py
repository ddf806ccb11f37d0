"""scikit-learn's digits: 1,797 real scans, shipped with the library (UCI Optical Recognition of Handwritten Digits)."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]


def _split() -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[:, None]
    return train_test_split(x, digits.target.astype(np.int64), test_size=450, random_state=0, stratify=digits.target)


def training() -> Iterator[Batch]:
    """One epoch in shuffled batches of 64; the shuffle is the same in every epoch."""
    x, _, y, _ = _split()
    order = np.random.default_rng(0).permutation(len(x))
    for start in range(0, len(x), 64):
        index = order[start : start + 64]
        yield x[index], y[index]


def calibration() -> Iterator[Batch]:
    x, _, y, _ = _split()
    yield x[:200], y[:200]


def evaluation() -> Iterator[Batch]:
    _, x, _, y = _split()
    yield x, y
