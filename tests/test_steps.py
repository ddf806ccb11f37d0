"""Steps in a history: found where they are, and seldom where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import ruptures

from edgepack import steps


def _series(seed: int, *levels: tuple[int, float], noise: float = 0.01) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([level * np.exp(random.standard_t(3, count) * noise) for count, level in levels])


@pytest.mark.parametrize("noise", [0.002, 0.05])
def test_false_alarms_are_as_rare_as_stated(noise: float) -> None:
    """Heavy-tailed noise without a step, any size of step counted: at most ALPHA, within three standard errors of 500 series."""
    alarms = sum(bool(steps.find_steps(_series(seed, (20, 5.0), noise=noise))) for seed in range(500))
    assert alarms / 500 <= steps.ALPHA + 3 * np.sqrt(steps.ALPHA * (1 - steps.ALPHA) / 500)


def test_a_step_is_found_where_ruptures_finds_it() -> None:
    exact = 0
    for seed in range(50):
        series = _series(seed, (9, 5.0), (11, 5.5))
        (step,) = steps.find_steps(series)
        (theirs, _) = ruptures.Binseg(model="l2", min_size=steps.LEAST, jump=1).fit(np.log(series)).predict(n_bkps=1)
        assert abs(step.index - theirs) <= 1
        assert step.ratio == pytest.approx(1.1, rel=0.02)
        exact += step.index == 9
    assert exact >= 40


def test_two_steps_have_their_own_ratios() -> None:
    first, second = steps.find_steps(_series(3, (12, 5.0), (12, 6.0), (12, 4.5)))
    assert (first.index, second.index) == (12, 24)
    assert first.ratio == pytest.approx(1.2, rel=0.02)
    assert second.ratio == pytest.approx(0.75, rel=0.02)


def test_an_outlier_a_tiny_step_and_a_short_series_are_none() -> None:
    assert not steps.find_steps([5.0] * 12 + [50.0] + [5.0] * 12)
    assert not steps.find_steps([5.0] * 20 + [5.05] * 20)
    assert not steps.find_steps([5.0] * 5 + [9.0] * 5)
    assert not steps.find_steps([])


def test_a_history_shows_the_same_steps_every_time() -> None:
    series = _series(1, (8, 5.0), (8, 5.3))
    assert steps.find_steps(series) == steps.find_steps(series)
