"""Where two machines answer the same samples differently, and by how much."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import InputError
from edgepack.evaluate import agreement
from edgepack.trials import Difference

SCORES = np.array([[0.9, 0.1, 0.0], [0.4, 0.5, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], np.float32)
LABELS = np.array([0, 1, 2, 0])


def test_every_sample_with_another_class_is_listed() -> None:
    board = SCORES.copy()
    board[1] = [0.5, 0.4, 0.1]
    found = agreement((SCORES,), (board[:, None],), LABELS, (0.05,))
    assert found.share == 0.75
    assert found.differences == (Difference(1, 1, 1, 0),)
    assert found.max_abs == pytest.approx(0.1)
    assert not found.within
    assert agreement((SCORES,), (board,), np.eye(3)[LABELS], (0.2,)).differences == (Difference(1, 1, 1, 0),)


def test_what_holds_no_classes_agrees_by_its_values_alone() -> None:
    values = np.array([[0.1], [0.7]])
    found = agreement((values,), (values + 0.01,), np.array([0, 1]), (0.1,))
    assert (found.share, found.differing, found.within) == (None, 0, True)
    assert agreement((SCORES,), (SCORES,), SCORES, (0.0,)).share is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match="the board answered"):
        agreement((SCORES,), (SCORES[:2],), LABELS, (0.1,))
