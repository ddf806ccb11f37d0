"""Parity: what it measures, and that it refuses outputs that cannot be the same model's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from edgepack import evaluate
from edgepack.errors import InexpressibleError, InputError
from edgepack.evaluate.parity import MOST_DB

RNG = np.random.default_rng(0)
OUTPUT = RNG.standard_normal((20, 10)).astype(np.float32)
ARRAYS = npst.arrays(
    np.float32, npst.array_shapes(min_dims=2, max_dims=3, max_side=5), elements=st.floats(-100, 100, width=32)
)


def check(expected: np.ndarray, actual: np.ndarray) -> None:
    found = evaluate.parity((expected,), (actual,))
    evaluate.check_float(found, (expected,), (actual,))


def test_figures():
    expected = np.array([[0.0, 4.0], [2.0, 3.0]])
    found = evaluate.parity((expected,), (expected + np.array([[0.0, 0.5], [0.0, 0.0]]),))
    assert (found.max_abs, found.relative) == (0.5, 0.125)
    assert found.sqnr_db == pytest.approx(10 * math.log10(29 / 0.25))


def test_the_worst_output_counts():
    good, bad = OUTPUT + np.float32(1e-6), OUTPUT * np.float32(1.1)
    found = evaluate.parity((OUTPUT, OUTPUT), (good, bad))
    assert found == evaluate.parity((OUTPUT,), (bad,))


@given(ARRAYS)
def test_identical_outputs_are_finite_and_pass(array):
    found = evaluate.parity((array,), (array,))
    assert (found.max_abs, found.relative, found.sqnr_db) == (0.0, 0.0, MOST_DB)
    check(array, array)


@given(ARRAYS, st.floats(0.01, 100.0), st.floats(1e-6, 0.5))
def test_scale_does_not_matter(array, scale, noise):
    other = array + noise * np.sign(array + 0.5)
    one = evaluate.parity((array,), (other,))
    two = evaluate.parity((array.astype(np.float64) * scale,), (other.astype(np.float64) * scale,))
    assert one.sqnr_db == pytest.approx(two.sqnr_db, abs=1e-3)
    if np.any(array):
        assert one.relative == pytest.approx(two.relative, rel=1e-3)


@given(st.floats(1.1e-3, 10.0))
def test_a_float_conversion_may_not_be_off_by_more_than_a_thousandth(share):
    wrong = OUTPUT.copy()
    wrong[3, 4] += share * np.ptp(OUTPUT) * 1.001
    with pytest.raises(InexpressibleError, match="of their range"):
        check(OUTPUT, wrong)


WRONG = {
    "NaN": (np.where(np.arange(10) == 3, np.nan, OUTPUT), "holds NaN"),
    "infinity": (np.where(np.arange(10) == 3, np.inf, OUTPUT), "holds infinity"),
    "another shape": (OUTPUT[:, :9], r"shape \[9\] a sample, its source's has \[10\]"),
    "transposed classes": (OUTPUT[:, ::-1], "of their range"),
    "zeros": (np.zeros_like(OUTPUT), "of their range"),
    "another sample's": (np.roll(OUTPUT, 1, axis=0), "of their range"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_outputs(case):
    actual, said = WRONG[case]
    with pytest.raises(InexpressibleError, match=said):
        check(OUTPUT, actual)


def test_another_number_of_outputs():
    with pytest.raises(InexpressibleError, match="2 outputs, its source has 1"):
        evaluate.parity((OUTPUT,), (OUTPUT, OUTPUT))


def test_a_source_of_nan_is_the_source_s_fault():
    with pytest.raises(InputError, match="of the source is NaN") as caught:
        evaluate.parity((OUTPUT * np.nan,), (OUTPUT,))
    assert not isinstance(caught.value, InexpressibleError)


def test_masked_outputs_may_be_infinite_on_both_sides():
    masked = np.where(np.arange(10) == 3, -np.inf, OUTPUT)
    check(masked, masked)
    with pytest.raises(InexpressibleError):
        check(masked, OUTPUT)


def test_an_output_that_stopped_depending_on_the_input():
    """A large constant part makes the range so wide that a dead output is within a thousandth of it."""
    constant = np.linspace(0, 1000, 10)
    expected = constant + 0.1 * RNG.standard_normal((20, 10))
    dead = np.broadcast_to(expected.mean(axis=0), expected.shape)
    assert evaluate.parity((expected,), (dead,)).relative < evaluate.FLOAT_TOLERANCE
    with pytest.raises(InexpressibleError, match="does not follow the source"):
        check(expected, dead)
    check(expected, expected + 1e-4 * RNG.standard_normal((20, 10)))


def test_constant_outputs_compare_by_their_size():
    constant = np.full((5, 3), 7.0)
    check(constant, constant + 1e-3)
    with pytest.raises(InexpressibleError):
        check(constant, constant + 0.1)
    zeros = np.zeros((5, 3))
    check(zeros, zeros + 1e-4)
    with pytest.raises(InexpressibleError):
        check(zeros, zeros + 0.1)


def test_class_indices_compare_exactly():
    indices = RNG.integers(0, 10, (20,))
    check(indices, indices.astype(np.int32))
    with pytest.raises(InexpressibleError):
        check(indices, (indices + 1) % 10)
