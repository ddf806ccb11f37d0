"""Parity: how far the outputs of a variant are from those of its source on the same real samples."""

from __future__ import annotations

import math

import numpy as np

from edgepack.errors import BugError, InexpressibleError, InputError
from edgepack.samples import Array, Arrays
from edgepack.variant import Parity

FLOAT_TOLERANCE = 1e-3
"""Of the output's range: what a float conversion may differ by."""

MOST_DB = 200.0
"""Identical outputs have no noise at all; a finite number can be written down and compared."""

_ADVICE = "the conversion is wrong: build for another format, or report the model's operators"


def parity(expected: Arrays, actual: Arrays) -> Parity:
    """Compare outputs `[n, …]`, one array an output, over all samples.

    expected: of the source; actual: of the variant. Raises InexpressibleError when they cannot be the same model's: another
    number of outputs, another shape, NaN or infinity where the source has a number. Raises InputError when the source
    itself gives NaN.
    """
    if len(expected) != len(actual):
        raise InexpressibleError(f"it has {len(actual)} outputs, its source has {len(expected)}", advice=_ADVICE)
    if not expected or not len(expected[0]):
        raise BugError("parity of no samples")
    each = [_compare(i, e, a) for i, (e, a) in enumerate(zip(expected, actual, strict=True))]
    return Parity(
        max_abs=max(found.max_abs for found in each),
        relative=max(found.relative for found in each),
        sqnr_db=min(found.sqnr_db for found in each),
    )


def check_float(parity: Parity, expected: Arrays, actual: Arrays) -> None:
    """Raises InexpressibleError unless a float conversion is right.

    Right is: within 1e-3 of every output's range, and following the source from sample to sample. The second matters where
    a large constant part hides that an output no longer depends on the input.
    """
    if not parity.relative <= FLOAT_TOLERANCE:
        raise InexpressibleError(
            f"its outputs differ from the source's by {parity.max_abs:.3g}, {parity.relative:.2%} of their range",
            expected=f"at most {FLOAT_TOLERANCE:.1%} of the range for a float conversion",
            advice=_ADVICE,
        )
    for i, (own, theirs) in enumerate(zip(expected, actual, strict=True)):
        share = _unfollowed(_floats(own), _floats(theirs))
        if share > 0.5:
            raise InexpressibleError(
                f"output {i} does not follow the source from sample to sample: {share:.0%} of its variation is lost",
                expected="outputs that depend on the inputs as the source's do",
                advice=_ADVICE,
            )


def _compare(index: int, expected: Array, actual: Array) -> Parity:
    if expected.shape != actual.shape:
        raise InexpressibleError(
            f"output {index} has the shape {list(actual.shape[1:])} a sample, its source's has {list(expected.shape[1:])}",
            advice=_ADVICE,
        )
    own, theirs = _floats(expected), _floats(actual)
    if np.isnan(own).any():
        raise InputError(f"output {index} of the source is NaN", advice="check the weights and the samples")
    finite = np.isfinite(own)
    if not np.isfinite(theirs[finite]).all() or not np.array_equal(theirs[~finite], own[~finite]):
        what = "NaN" if np.isnan(theirs).any() else "infinity"
        raise InexpressibleError(f"output {index} holds {what} where the source's does not", advice=_ADVICE)
    own, theirs = own[finite], theirs[finite]
    if not own.size:
        return Parity(0.0, 0.0, MOST_DB)
    noise = theirs - own
    worst = float(np.abs(noise).max())
    return Parity(worst, worst / _range(own), _sqnr(own, noise))


def _floats(array: Array) -> Array:
    return array.astype(np.float64)


def _range(values: Array) -> float:
    """max − min; of a constant output its size, of one that is always 0 one: differences are then absolute."""
    span, size = float(np.ptp(values)), float(np.abs(values).max())
    if span > 1e-6 * size:
        return span
    return size or 1.0


def _sqnr(signal: Array, noise: Array) -> float:
    """10 log10(Σ signal² / Σ noise²), within ±200 dB."""
    power, error = float(np.square(signal).sum()), float(np.square(noise).sum())
    if error == 0.0:
        return MOST_DB
    if power == 0.0:
        return -MOST_DB
    return float(np.clip(10 * math.log10(power / error), -MOST_DB, MOST_DB))


def _unfollowed(expected: Array, actual: Array) -> float:
    """Share of the source's variation from sample to sample that the variant misses, 0..1 and above.

    0 where there is one sample, or where the variation is below what float32 resolves of the values themselves.
    """
    if len(expected) < 2 or not np.isfinite(expected).all():
        return 0.0
    variation = expected - expected.mean(axis=0)
    noise = (actual - actual.mean(axis=0)) - variation
    size, error = float(np.sqrt(np.square(variation).mean())), float(np.sqrt(np.square(noise).mean()))
    if size <= 1e-5 * float(np.abs(expected).max()):
        return 0.0
    return error / size
