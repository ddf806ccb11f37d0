"""What `benchmarks/search.py` says of a front: its volume is that of the boxes which it beats."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from search import volume_under

WORST = (4.0, 4.0, 4.0)
points = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=6)


@given(points)
def test_a_volume_is_that_of_the_cells_that_some_point_beats(given_points: list[tuple[int, ...]]) -> None:
    cells = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    beaten = sum(any((cell >= point).all() for point in map(np.array, given_points)) for cell in cells)
    assert volume_under([tuple(map(float, point)) for point in given_points], WORST) == beaten
