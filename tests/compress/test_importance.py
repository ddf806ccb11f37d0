"""Which channels go: pure choices over scores, and what each importance looks at in a real module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from edgepack import compress
from edgepack.compress.importance import kept_channels, removals
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.recipe import Importance, Prune
from edgepack.samples import Array, Arrays, TrainingData

pytestmark = pytest.mark.frameworks

SCORES = st.lists(st.lists(st.floats(0, 10), min_size=1, max_size=32), min_size=1, max_size=4)


@given(SCORES, st.floats(0.05, 0.95), st.sampled_from(["layer", "global"]), st.sampled_from([1, 4, 8]))
def test_what_goes_is_the_least_and_leaves_multiples(groups: Any, sparsity: float, scope: Any, multiple: int) -> None:
    gone = removals(groups, Prune(sparsity, multiple, scope=scope))
    for scores, channels in zip(groups, gone, strict=True):
        left = len(scores) - len(channels)
        assert left == len(scores) or left % multiple == 0
        assert left >= min(multiple, len(scores))
        stays = set(range(len(scores))) - set(channels)
        assert all(scores[one] <= scores[other] for one in channels for other in stays)
        if scope == "layer":
            assert left == kept_channels(len(scores), sparsity, multiple)


def test_globally_the_least_important_layer_loses_most() -> None:
    strong, weak = [2.0 + 0.01 * channel for channel in range(16)], [0.1 + 0.01 * channel for channel in range(16)]
    assert [len(gone) for gone in removals([strong, weak, []], Prune(0.375, 4, scope="global"))] == [0, 12, 0]
    assert [len(gone) for gone in removals([strong, weak, []], Prune(0.375, 4))] == [4, 4, 0]


class Two(nn.Module):
    """Its first half of channels has large weights, the second large batch norm scales, and only every other one is read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Linear(16, 2)
        self.plain, self.after = nn.Conv2d(1, 16, 1), nn.Linear(16, 2)
        with torch.no_grad():
            self.conv.weight[:8] = 5.0
            self.conv.weight[8:] = 0.5
            self.norm.weight[:8] = 0.01
            self.norm.weight[8:] = 0.02
            self.head.weight[:] = 0.1
            self.head.weight[:, ::2] = 0.0
            self.norm.bias[:] = 0.0

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.conv(x)).abs().mean((2, 3))) + self.after(self.plain(x).relu().mean((2, 3)))


def training(labels: bool = True) -> TrainingData:
    x = np.random.default_rng(0).random((32, 1, 4, 4)).astype(np.float32)

    def batches(epoch: int) -> Iterator[tuple[Arrays, Array | None]]:
        yield (x,), (np.arange(32) % 2 if labels else None)

    return TrainingData(batches, Digest("sha256:t"))


def survivors(importance: Importance) -> tuple[set[int], Any]:
    torch.manual_seed(0)
    module = Two().eval()
    marks = torch.arange(16.0) / 1000  # which channels stay is read off where it changes no score
    module.norm.running_mean.copy_(marks)
    pruned = compress.prune(module, (np.ones((1, 1, 4, 4), np.float32),), Prune(0.5, importance=importance), training())
    return {round(float(mark) * 1000) for mark in pruned.module.norm.running_mean}, pruned


def test_each_importance_looks_at_what_it_says() -> None:
    assert survivors("magnitude")[0] == set(range(8))
    by_scale, pruned = survivors("norm-scale")
    assert by_scale == set(range(8, 16))
    assert pruned.unranked == ("plain",) and "without a score, so whole: plain" in str(pruned)
    assert survivors("taylor")[0] == set(range(1, 16, 2))


def test_taylor_without_labels_says_what_it_needs() -> None:
    example = (np.ones((1, 1, 4, 4), np.float32),)
    for data in (None, training(labels=False)):
        with pytest.raises(InputError, match='importance = "taylor" needs labelled training data'):
            compress.prune(Two(), example, Prune(0.5, importance="taylor"), data)


def test_pruning_globally_still_computes_what_it_must() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 3)
    )
    with torch.no_grad():  # scores are relative to a layer's mean: a few strong channels leave the others weak
        module[3].weight[:8] *= 30
    pruned = compress.prune(module, (np.ones((1, 3, 8, 8), np.float32),), Prune(0.5, scope="global"))
    widths = pruned.module[0].out_channels, pruned.module[3].out_channels
    assert all(width % 8 == 0 and width >= 8 for width in widths)
    assert widths[1] < widths[0], "the layer with many weak channels loses more of them"
    assert pruned.kept == ()
