"""Laws of the pure parts: channels, widths, schedules, what counts as a lost output."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepack.compress.channels import least_bounds, per_channel, smallest, with_bounds
from edgepack.compress.importance import kept_channels
from edgepack.compress.onnx_stored import on_grid
from edgepack.compress.operators import Operator, Quantized
from edgepack.compress.schedules import learning_rate
from edgepack.compress.tflite_stages import packed, unpacked
from edgepack.compress.trial import lost
from edgepack.recipe import activations_for

FLOATS = st.floats(-1e3, 1e3, width=32)
WEIGHTS = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=5), elements=FLOATS
)


@given(WEIGHTS, st.data())
def test_a_weight_is_off_by_half_a_step_at_most(weights: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1))
    integers, steps = per_channel(weights, (axis,), 127)
    assert (steps > 0).all()
    assert steps.size == weights.shape[axis]
    assert np.abs(integers.astype(int)).max() <= 127
    assert (np.abs(weights - integers * steps) <= steps * 0.501 + 1e-30).all()


@given(WEIGHTS, st.data(), st.sampled_from(["int8", "int4"]))
def test_weights_on_their_grid_lie_as_the_weights_lay(weights: np.ndarray, data: st.DataObject, form: Any) -> None:
    from onnx import numpy_helper

    axis = data.draw(st.integers(0, weights.ndim - 1))
    axes = (axis,) if axis != 1 else (0, 1)
    grid = on_grid(numpy_helper.from_array(weights), axes, form)
    assert np.abs(grid.integers.astype(int)).max() <= grid.limit
    meant = grid.meant()
    assert meant.shape == weights.shape
    others = tuple(other for other in range(weights.ndim) if other not in axes)
    bounds = np.abs(weights).max(axis=others, keepdims=True)
    # 4 bits may cut off three tenths of the largest weight, and their steps are float16's, the least of which is 6e-8
    allowed = bounds * (0.51 / 127) + 1e-30 if form == "int8" else bounds * 0.31 + 3e-7
    assert (np.abs(meant - weights) <= allowed).all()


@given(arrays.arrays(np.int8, st.integers(1, 33), elements=st.integers(-8, 7)))
def test_four_bits_are_read_as_they_were_packed(values: np.ndarray) -> None:
    data = packed(values)
    assert data.dtype == np.uint8 and len(data) == (len(values) + 1) // 2
    assert (unpacked(data, len(values)) == values).all()


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 1000), max_size=12))
def test_the_smallest_hold_a_tenth_at_most(sizes: dict[str, int]) -> None:
    chosen = smallest(sizes)
    total = sum(sizes.values())
    assert sum(sizes[name] for name in chosen) <= total / 10
    left = {name: size for name, size in sizes.items() if name not in chosen}
    assert all(sizes[name] <= size for name in chosen for size in left.values())
    assert not left or sum(sizes[name] for name in chosen) + min(left.values()) > total / 10


def test_a_dead_channel_gets_a_step_of_one() -> None:
    integers, steps = per_channel(np.array([[0, 0], [1, -2]], np.float32), (0,), 127)
    assert steps[0, 0] == 1
    assert not integers[0].any()


@given(WEIGHTS, st.floats(1e-6, 1e3), st.data())
def test_raised_channels_hold_their_bias_in_an_int32(weights: np.ndarray, step: float, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, weights.ndim - 1))
    bias = data.draw(arrays.arrays(np.float32, weights.shape[axis], elements=FLOATS))
    raised = with_bounds(weights, least_bounds(bias, step), axis)
    others = tuple(other for other in range(weights.ndim) if other != axis)
    scales = np.abs(raised.astype(np.float64)).max(axis=others) / 127
    used = bias != 0
    assert (np.abs(bias[used]) / (scales[used] * step) < 2**31).all()
    assert (raised != weights).sum(axis=others).max() <= 1


def test_channels_that_are_wide_enough_stay_the_same_array() -> None:
    weights = np.ones((4, 3), np.float32)
    assert with_bounds(weights, np.full(4, 0.5), 0) is weights


@given(st.integers(1, 4096), st.floats(0, 0.99), st.sampled_from([1, 4, 8, 16]))
def test_kept_channels_are_some_and_not_more_than_all(channels: int, sparsity: float, multiple: int) -> None:
    kept = kept_channels(channels, sparsity, multiple)
    assert 1 <= kept <= channels
    assert kept == channels or kept % multiple == 0
    assert abs(kept - channels * (1 - sparsity)) <= max(multiple, multiple / 2)
    assert kept_channels(channels, 0.0, multiple) >= channels - multiple / 2


@pytest.mark.parametrize(("channels", "kept"), [(64, 32), (24, 16), (40, 24), (8, 8), (7, 7), (16, 8), (3, 3)])
def test_half_of_the_channels_in_eights(channels: int, kept: int) -> None:
    assert kept_channels(channels, 0.5, 8) == kept


@given(st.floats(0, 1), st.floats(0, 1), st.integers(20, 10**6))
def test_the_rate_falls_from_its_peak_to_nothing(a: float, b: float, batches: int) -> None:
    early, late = sorted((a, b))
    assert 0 <= learning_rate("cosine", 1e-2, late, batches) <= learning_rate("cosine", 1e-2, early, batches) <= 1e-2
    assert learning_rate("cosine", 1e-2, 1.0, batches) < 1e-12
    assert learning_rate("cosine", 1e-2, 0.0, 0) < learning_rate("cosine", 1e-2, 0.0, batches) == 1e-2


@pytest.mark.parametrize(
    ("actual", "why"),
    [
        ([0.1, 0.5, 0.9], ""),
        ([0.11, 0.49, 0.88], ""),
        ([0.5, 0.5, 0.5], "every value is 0.5"),
        ([0.1, np.nan, 0.9], "it holds NaN or infinity"),
        ([0.9, 0.1, -0.9], "its error is larger than its signal"),
    ],
)
def test_what_counts_as_lost(actual: list[float], why: str) -> None:
    assert lost(np.array([0.1, 0.5, 0.9], np.float32), np.array(actual, np.float32)) == why


def test_an_output_that_is_constant_in_the_source_is_not_lost() -> None:
    assert lost(np.ones((4, 1), np.float32), np.ones((4, 1), np.float32)) == ""


@pytest.mark.parametrize(
    ("machine", "isa", "wanted"),
    [
        ("aarch64", ("neon",), "int8"),
        ("aarch64", ("neon", "dotprod"), "int8"),
        ("armv7l", ("neon",), "int8"),
        ("x86_64", ("avx2",), "int8"),
        ("x86_64", ("avx2", "avx512_vnni"), "uint8"),
    ],
)
def test_activations_follow_the_device(machine: str, isa: tuple[str, ...], wanted: str) -> None:
    assert activations_for(machine, isa) == wanted


def test_what_is_left_in_float_is_said() -> None:
    left = (Operator("Softmax", "s"), Operator("LSTM", "a"), Operator("LSTM", "b"))
    assert Quantized("onnx", "w8a8", (Operator("Gemm", "g"),), left).notes() == (
        "1 operators in w8a8",
        "3 left in float: LSTM (2), Softmax",
    )
