"""Laws of histograms, of the ranges taken from them, and of weights rounded to what a layer answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.compress import ranges
from edgepack.compress.histogram import HALF, LOOKED_AT, Histogram
from edgepack.compress.ranges import METHODS, Method, Range
from edgepack.compress.rounding import Rows, rounded, windows

NUMBERS = st.floats(-1e6, 1e6, width=32).map(lambda value: value if abs(value) > 1e-30 else 0.0)  # no underflow
VALUES = st.lists(arrays.arrays(np.float32, st.integers(1, 40), elements=NUMBERS), min_size=1, max_size=6)


def seen(*batches: np.ndarray) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def expected_error(values: np.ndarray, range: Range, levels: int = 256) -> float:
    step = (range.high - range.low) / (levels - 1)
    stored = np.clip(np.rint(values / step), np.rint(range.low / step), np.rint(range.high / step)) * step
    return float(((stored - values) ** 2).mean())


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(batches: list[np.ndarray], random: object) -> None:
    shuffled = list(batches)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = seen(*batches), seen(*shuffled)
    assert (one.counts == other.counts).all()
    assert (one.low, one.high, one.zeros, one.width) == (other.low, other.high, other.zeros, other.width)


@given(VALUES)
def test_every_value_is_in_the_bin_that_holds_it(batches: list[np.ndarray]) -> None:
    histogram, values = seen(*batches), np.concatenate(batches)
    assert histogram.total == values.size
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    places = np.floor(values.astype(np.float64) / histogram.width).astype(int) + HALF
    assert (np.bincount(places, minlength=2 * HALF) == histogram.counts).all()


@given(VALUES, st.sampled_from(METHODS), st.sampled_from([256, 65536]))
@settings(max_examples=60)
def test_a_range_holds_zero_and_nothing_that_was_not_seen(
    batches: list[np.ndarray], method: Method, levels: int
) -> None:
    histogram = seen(*batches)
    range, whole = ranges.choose(histogram, method, levels), ranges.minmax(histogram)
    assert whole.low <= range.low <= 0 <= range.high <= whole.high
    assert 0 <= ranges.clipped(histogram, range) <= 1
    assert ranges.clipped(histogram, whole) == 0


def test_large_tensors_are_counted_in_part_but_bounded_by_all() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((64, 50, 50)).astype(np.float32)
    values[3, 7, 9] = 77.0
    histogram = seen(values)
    assert histogram.high == 77.0
    assert LOOKED_AT / 2 < histogram.total <= LOOKED_AT
    assert histogram.counts.nbytes == 2 * HALF * 8


def test_every_channel_is_counted_alike_in_either_layout() -> None:
    """A stride that shares a factor with the number of channels would only ever meet some of them."""
    channels = np.arange(1, 33, dtype=np.float32)
    for values in (np.broadcast_to(channels, (64, 64, 32)), np.broadcast_to(channels[:, None, None], (32, 64, 64))):
        met = seen(np.ascontiguousarray(values)).counts
        assert np.ptp(met[met > 0]) <= 0.05 * met.max()
        assert (met > 0).sum() == 32


def test_what_is_not_finite_is_left_out() -> None:
    histogram = seen(np.array([1, np.nan, np.inf, -2], np.float32), np.array([np.nan], np.float32))
    assert (histogram.low, histogram.high, histogram.total) == (-2.0, 1.0, 2)


def test_a_tensor_of_zeros_or_of_nothing_has_an_empty_range() -> None:
    for histogram in (seen(np.zeros(5, np.float32)), seen(np.zeros((0, 3), np.float32))):
        for method in METHODS:
            range = ranges.choose(histogram, method, 256)
            assert range == Range(0.0, 0.0) or math.isinf(range.low)


@pytest.mark.parametrize("kind", ["laplace", "normal", "relu", "uniform", "outlier"])
def test_the_mse_range_is_near_the_best_of_all(kind: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "laplace": rng.laplace(size=8000),
        "normal": rng.standard_normal(8000),
        "relu": np.maximum(rng.standard_normal(8000), 0),
        "uniform": rng.uniform(-1, 3, 8000),
        "outlier": np.append(rng.standard_normal(7999), 60.0),
    }[kind].astype(np.float32)
    histogram = seen(values)
    found = expected_error(values, ranges.mse(histogram, 16), 16)
    whole = ranges.minmax(histogram)
    best = min(
        expected_error(values, Range(whole.low * a, whole.high * b), 16)
        for a in np.linspace(0.05, 1, 25)
        for b in np.linspace(0.05, 1, 25)
    )
    assert found <= best * 1.1 + 1e-9
    if kind in ("laplace", "outlier"):
        assert found < expected_error(values, whole, 16)


def test_percentiles_leave_out_what_is_rare() -> None:
    values = np.append(np.random.default_rng(0).uniform(-1, 1, 16000), [100.0]).astype(np.float32)
    range = ranges.percentile(seen(values), 0.999)
    assert range.high == pytest.approx(1.0, abs=0.1)
    assert range.low == pytest.approx(-1.0, abs=0.1)


def test_entropy_cuts_a_long_tail_and_keeps_a_full_range() -> None:
    rng = np.random.default_rng(0)
    tail = seen(np.append(rng.standard_normal(16000), [40.0, -35.0]).astype(np.float32))
    found = ranges.entropy(tail, 256)
    assert found.high < 20 and (type(found.low), type(found.high)) == (float, float)  # what a report writes as JSON
    full = seen(rng.uniform(-1, 1, 16000).astype(np.float32))
    assert ranges.entropy(full, 256).high > 0.9


def rows(outputs: int, taps: int, seed: int = 0) -> Rows:
    """Inputs of a small common direction, as neighbouring pixels have it."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((1, 400, 1))
    inputs = (common + 0.2 * rng.standard_normal((1, 400, taps))).astype(np.float32)
    weights = rng.standard_normal((1, outputs, taps)).astype(np.float32)
    return Rows(weights, np.abs(weights).max(axis=-1, keepdims=True) / 127, inputs)


@pytest.mark.parametrize("taps", [9, 40])
def test_rounding_to_answers_beats_rounding_to_the_nearest(taps: int) -> None:
    given = rows(6, taps)
    integers = rounded(given)
    nearest = np.rint(given.weights / given.steps)

    def error(of: np.ndarray) -> float:
        away = of * given.steps - given.weights
        return float((np.matmul(given.inputs, away.transpose(0, 2, 1)) ** 2).mean())

    assert error(integers) < 0.5 * error(nearest)
    assert np.abs(integers.astype(int)).max() <= 127
    assert np.abs(integers - nearest).max() <= 4


def test_windows_are_what_a_convolution_multiplies() -> None:
    image = np.random.default_rng(0).standard_normal((4, 6, 7)).astype(np.float32)
    found = windows([image], (3, 2), groups=2)
    assert found.shape == (2, 4 * 6, 2 * 3 * 2)
    assert (found[1, 0] == image[2:4, 0:3, 0:2].reshape(-1)).all()
    assert (found[0, -1] == image[0:2, 3:6, 5:7].reshape(-1)).all()
