"""How well a quantized file answers, asked of itself in its own runtime on held-out calibration samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgepack import runtimes
from edgepack.errors import InexpressibleError, InputError
from edgepack.names import FileFormat
from edgepack.samples import Array, Arrays, Run, Samples, over

HELD_OUT = 32
_LEAST_DB = 15.0
"""Below this the noise is a sixth of the signal: answers may agree on a few samples, but by luck."""
_LEAST = 8
"""With fewer calibration samples than this there is nothing to hold out, and nothing is tried."""


@dataclass(frozen=True)
class Quality:
    """sqnr_db: the worst output's typical signal to noise, the signal what changes from sample to sample, in dB

    outputs_db: of each output, None where it is not of floats; agreement: the share of samples with the float file's
    greatest output, 1 where no output has two columns; lost: the output that says nothing any more, and why, in words
    """

    sqnr_db: float
    outputs_db: tuple[float | None, ...]
    agreement: float
    lost: str = ""

    def holds(self, max_drop: float) -> bool:
        """Whether the answers are the float file's but for a share of `max_drop`."""
        return self.agreement >= 1 - max_drop and self.sqnr_db >= _LEAST_DB


@dataclass(frozen=True)
class Trial:
    """samples: held out; expected: the float file's answers; place: a file to write to; meaningful: whether there are enough"""

    samples: Samples
    expected: Arrays
    place: Path
    format: FileFormat
    meaningful: bool

    def of(self, data: bytes) -> Quality:
        """Raises InexpressibleError where the runtime refuses what the library wrote: the user's file is not to blame."""
        self.place.write_bytes(data)
        try:
            return quality(self.expected, over(runtimes.open_file(self.place, self.format), self.samples))
        except InputError as error:
            raise InexpressibleError(
                f"the quantized form does not run: {error.what}", advice="use another precision for this model"
            ) from error


def split(samples: Samples, fit: int, held_out: int = HELD_OUT) -> tuple[Samples, Samples, bool]:
    """Samples to correct on and samples to judge on, evenly spread and apart from each other; whether they are enough.

    Too few are both at once, which only tells whether a file runs.
    """
    count = len(samples)
    if count < _LEAST:
        return samples, samples, False
    odd, even = np.arange(1, count, 2), np.arange(0, count, 2)
    return _pick(samples, even).take(fit), _pick(samples, odd).take(held_out), True


def trial(run: Run, samples: Samples, place: Path, format: FileFormat, meaningful: bool) -> Trial:
    return Trial(samples, over(run, samples), place, format, meaningful)


def quality(expected: Arrays, actual: Arrays) -> Quality:
    """Compare answers `[samples, …]`, output by output."""
    each = tuple(
        _typical_db(wanted, given) if wanted.dtype.kind == "f" else None
        for wanted, given in zip(expected, actual, strict=True)
    )
    agreements = [
        float((wanted.argmax(-1) == given.argmax(-1)).mean())
        for wanted, given in zip(expected, actual, strict=True)
        if wanted.dtype.kind == "f" and wanted.ndim == 2 and wanted.shape[-1] > 1
    ]
    losses = (
        f"loses output {place}: {reason}"
        for place, (wanted, given) in enumerate(zip(expected, actual, strict=True))
        if wanted.dtype.kind == "f" and (reason := lost(wanted, given))
    )
    worst = min((db for db in each if db is not None), default=200.0)
    return Quality(worst, each, min(agreements, default=1.0), next(losses, ""))


def lost(expected: Array, actual: Array) -> str:
    """Why `actual` says nothing about `expected`, in words; empty when it does."""
    if not np.isfinite(actual).all():
        return "it holds NaN or infinity"
    signal = _varying(expected.astype(np.float64))
    if np.ptp(actual) == 0 and np.ptp(expected) > 0:
        return f"every value is {float(actual.flat[0]):g}"
    error = actual.astype(np.float64) - expected
    if float((error**2).sum()) > float((signal**2).sum()) > 0:
        return "its error is larger than its signal"
    return ""


def _varying(values: Array) -> Array:
    """What of the answers changes from sample to sample: their distance from each element's mean, of one sample from its own."""
    away: Array = values - (values.mean(axis=0) if len(values) > 1 else values.mean())
    return away


def _typical_db(expected: Array, actual: Array) -> float:
    """The mean over samples of the noise in dB below the samples' mean signal, at most 120 dB each.

    In dB first, then the mean: a sum of squares over a few samples says what the worst of them did, and changes with it.
    """
    if not np.isfinite(actual).all():
        return -200.0
    wanted = expected.astype(np.float64).reshape(len(expected), -1)
    signal = float((_varying(wanted) ** 2).sum()) / len(wanted)
    noise = ((actual.reshape(wanted.shape) - wanted) ** 2).sum(axis=1)
    if signal <= 0:
        return 120.0 if not noise.any() else -200.0
    return float(-10 * np.log10(np.maximum(noise / signal, 1e-12)).mean())


def _pick(samples: Samples, index: Array) -> Samples:
    return Samples(tuple(array[index] for array in samples.inputs), None, samples.digest)
