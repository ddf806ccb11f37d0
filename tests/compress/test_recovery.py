"""Recovery gives back what pruning took, the same way every time, and refuses data that cannot be learned from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from edgepack import compress
from edgepack.compress.losses import Goal, loss_of
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.recipe import Prune, Recover
from edgepack.samples import Array, Arrays, TrainingData

pytestmark = pytest.mark.frameworks


def training(x: Array, y: Array | None, size: int = 32) -> TrainingData:
    def batches(epoch: int) -> Iterator[tuple[Arrays, Array | None]]:
        for start in range(0, len(x), size):
            yield (x[start : start + size],), None if y is None else y[start : start + size]

    return TrainingData(batches, Digest("sha256:t"))


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def small(*tail: nn.Module, seed: int = 0, outputs: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs), *tail)


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


def test_digits_come_back(digits: Any, teacher: nn.Module, heard: Any) -> None:
    """scikit-learn's digits: what half the channels took, six epochs with the teacher give back."""
    whole = digits.accuracy(teacher)
    pruned = compress.prune(teacher, (digits.test_x[:1],), Prune(0.5))
    broken = digits.accuracy(pruned.module)
    recovered = compress.recover(pruned.module, teacher, digits.training, Recover(epochs=6), heard)
    assert whole > 0.96
    assert broken < whole - 0.2
    assert digits.accuracy(recovered) > whole - 0.015
    assert digits.accuracy(pruned.module) == broken, "the module it was given is untouched"
    assert not recovered.training
    assert heard.notes[-1].startswith("epoch 6/6: loss ")


def test_same_data_same_weights_whatever_was_drawn_before(heard: Any) -> None:
    x, y = normal(96, 8), np.arange(96) % 3
    net = nn.Sequential(small(), nn.Dropout(0.2))
    torch.manual_seed(1)
    one = compress.recover(net, net, training(x, y), Recover(epochs=2), heard)
    torch.rand(100)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        two = compress.recover(net, net, training(x, y), Recover(epochs=2), heard)
    finally:
        torch.set_num_threads(threads)
    other = compress.recover(net, net, training(x, y), Recover(epochs=2, seed=1), heard)
    assert same(one, two)
    assert not same(one, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("distil", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("tail", "outputs", "labels", "goal"),
    [
        ((), 3, np.arange(64) % 3, Goal.LOGITS),
        ((nn.Softmax(1),), 3, np.arange(64) % 3, Goal.PROBABILITIES),
        ((), 1, np.arange(64) % 2, Goal.BINARY),
        ((nn.Sigmoid(),), 1, np.arange(64) % 2, Goal.CHANCE),
        ((), 1, np.arange(64), Goal.VALUES),
        ((), 3, normal(64, 3, seed=3), Goal.VALUES),
        ((), 1, normal(64, seed=3), Goal.VALUES),
        ((), 3, None, Goal.VALUES),
    ],
)
def test_every_goal_is_read_off_and_trained_for(
    tail: tuple[nn.Module, ...], outputs: int, labels: Array | None, goal: Goal, distil: float, heard: Any
) -> None:
    x = normal(64, 8)
    teacher, student = small(*tail, outputs=outputs), small(*tail, seed=1, outputs=outputs)
    with torch.no_grad():
        soft = teacher(torch.from_numpy(x))
    assert Goal.of((soft,), labels) is goal

    def loss(module: nn.Module) -> float:
        with torch.no_grad():
            return float(loss_of(goal, (module(torch.from_numpy(x)),), (soft,), labels, distil))

    trained = compress.recover(
        student, teacher, training(x, labels), Recover(epochs=10, distil=distil, learning_rate=1e-2), heard
    )
    assert loss(trained) < loss(student) - 1e-3


def test_the_teachers_answers_alone_teach(heard: Any) -> None:
    teacher, student = small(), small(seed=1)
    x = normal(256, 8)
    trained = compress.recover(student, teacher, training(x, None), Recover(epochs=40, learning_rate=1e-2), heard)
    probe = torch.from_numpy(normal(64, 8, seed=5))
    with torch.no_grad():
        before, after = ((module(probe) - teacher(probe)).pow(2).mean() for module in (student, trained))
    assert after < 0.1 * before


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(0, 8), None, "yields no batch"),
        (np.full((8, 8), np.nan, np.float32), np.zeros(8, int), "the training data holds NaN or infinity"),
        (normal(8, 8), np.full(8, np.inf), "the training data holds NaN or infinity"),
        (normal(8, 8), np.full(8, 3), "training labels run from 3 to 3"),
        (normal(8, 8), np.zeros((8, 2), int), r"training labels have the shape \[8, 2\]"),
        (normal(8, 8), np.zeros((8, 2)), r"training labels have the shape \[8, 2\]"),
        (normal(8, 8), np.array(["a"] * 8), "training labels are <U1"),
        (normal(8, 8), np.zeros(4, int), r"arrays of \[4, 8\] samples"),
        (np.full((8, 8), 1e38, np.float32), np.zeros((8, 3)), "diverged in epoch 1: the loss is inf"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused(x: Array, y: Array | None, message: str, heard: Any) -> None:
    with pytest.raises(InputError, match=message):
        compress.recover(small(), small(), training(x, y), Recover(epochs=1), heard)


def test_a_last_batch_of_one_does_not_stop_a_batch_norm(heard: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 3))
    trained = compress.recover(net, net, training(normal(33, 8), np.arange(33) % 3), Recover(epochs=1), heard)
    assert not same(net, trained)
