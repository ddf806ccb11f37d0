"""Pruned modules run, are smaller, keep their outputs' shapes, and compute what the original does without those channels."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from edgepack import compress
from edgepack.digest import Digest
from edgepack.errors import InexpressibleError
from edgepack.recipe import Prune
from edgepack.samples import TrainingData

pytestmark = pytest.mark.frameworks


class Residual(nn.Module):
    """A shortcut that keeps channels in their places, and one that projects them (options A without and B of He et al.)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.norm, self.wide, self.short = nn.BatchNorm2d(16), nn.Conv2d(16, 32, 3, 2, 1), nn.Conv2d(16, 32, 1, 2)
        self.head = nn.Linear(32 * 16, 5)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        x = (self.norm(self.inner(x)) + x).relu()
        return self.head((self.wide(x) + self.short(x)).relu().flatten(1))


class PaddedShortcut(nn.Module):
    """Option A: the shortcut pads channels, so channel 0 of the stem is channel 8 of the sum."""

    def __init__(self, inner: bool = True) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 16, 3, padding=1), nn.Linear(32, 5)
        self.first = nn.Conv2d(16, 32, 3, 2, 1)
        self.second = nn.Conv2d(32, 32, 3, padding=1) if inner else nn.Identity()

    def forward(self, x: Any) -> Any:
        x = self.stem(x).relu()
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 8, 8))
        return self.head((self.second(self.first(x).relu()) + short).relu().mean((2, 3)))


class InvertedResidual(nn.Module):
    """MobileNetV2's block, depthwise in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(16, 64, 1), nn.BatchNorm2d(64), nn.ReLU6(),
            nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.BatchNorm2d(64), nn.ReLU6(), nn.Conv2d(64, 16, 1),
        )  # fmt: skip
        self.head = nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = self.stem(x)
        return self.head((x + self.block(x)).mean((2, 3))).softmax(1)


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 24, 3, padding=1)
        self.c, self.head = nn.Conv2d(40, 16, 1), nn.Linear(16, 5)

    def forward(self, x: Any) -> Any:
        x = self.a(x).sigmoid()  # of a channel that is gone nothing remains, of a channel that is zero a half would
        return self.head(self.c(torch.cat([x, self.b(x).relu()], 1)).mean((2, 3)))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(8, 32), nn.Linear(32, 4)
        self.encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.head(self.encoder(self.embed(x)).mean(1))


IMAGE = (1, 3, 8, 8)


def example(shape: tuple[int, ...]) -> tuple[Any, ...]:
    return (np.random.default_rng(0).standard_normal(shape).astype(np.float32),)


def seeded(kind: Any, *arguments: Any) -> Any:
    torch.manual_seed(0)
    module = kind(*arguments).eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.running_mean, std=0.1)
    return module


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize(
    ("build", "shape"),
    [(Residual, IMAGE), (InvertedResidual, IMAGE), (Concatenated, IMAGE), (Transformer, (1, 6, 8)), (mlp, (1, 10))],
)
def test_half_of_the_channels_go(build: Any, shape: tuple[int, ...]) -> None:
    module, inputs = seeded(build), example(shape)
    before = copy.deepcopy(module.state_dict())
    pruned = compress.prune(module, inputs, Prune(0.5))
    assert pruned.parameters_after < 0.65 * pruned.parameters_before
    assert pruned.macs_after < 0.65 * pruned.macs_before
    assert pruned.parameters_after == sum(parameter.numel() for parameter in pruned.module.parameters())
    assert pruned.milliseconds_before > 0 < pruned.milliseconds_after
    assert pruned.kept == ()
    x = torch.from_numpy(inputs[0])
    with torch.no_grad():
        assert pruned.module(x).shape == module(x).shape
    assert not pruned.module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize(
    ("build", "shape"),
    [(Residual, IMAGE), (InvertedResidual, IMAGE), (Transformer, (1, 6, 8))],
    ids=lambda value: str(value),
)
def test_every_kind_of_net_is_narrowed_by_what_the_loss_says(build: Any, shape: tuple[int, ...], scope: Any) -> None:
    x = np.random.default_rng(1).standard_normal((16, *shape[1:])).astype(np.float32)
    training = TrainingData(lambda epoch: iter([((x,), np.arange(16) % 4)]), Digest("sha256:t"))
    module = seeded(build)
    pruned = compress.prune(module, example(shape), Prune(0.5, importance="taylor", scope=scope), training)
    assert pruned.kept == pruned.unranked == ()
    assert pruned.macs_after < 0.8 * pruned.macs_before
    assert all(parameter.grad is None for parameter in (*module.parameters(), *pruned.module.parameters()))


def test_widths_are_multiples_and_the_output_is_whole() -> None:
    pruned = compress.prune(seeded(Residual), example(IMAGE), Prune(0.3, multiple=4)).module
    widths = {name: layer.out_channels for name, layer in pruned.named_modules() if isinstance(layer, nn.Conv2d)}
    assert widths == {"stem": 12, "inner": 12, "wide": 24, "short": 24}
    assert pruned.head.out_features == 5


def test_the_least_important_channels_go() -> None:
    """Channels that nothing depends on are the ones removed: the answers do not change."""
    module = seeded(Residual)
    with torch.no_grad():
        for layer in (module.stem, module.inner, module.wide, module.short):
            half = layer.out_channels // 2
            layer.weight[::2] = 0
            layer.bias[::2] = 0
            assert half % 8 == 0
        module.norm.weight[::2] = 0
        module.norm.bias[::2] = 0
    inputs = example(IMAGE)
    pruned = compress.prune(module, inputs, Prune(0.5))
    x = torch.from_numpy(inputs[0])
    with torch.no_grad():
        assert torch.allclose(pruned.module(x), module(x), atol=1e-5)


def test_a_padded_shortcut_stays_whole_and_is_named() -> None:
    """torch-pruning alone would narrow it to a module that runs and adds the wrong channels to each other."""
    pruned = compress.prune(seeded(PaddedShortcut), example(IMAGE), Prune(0.5))
    assert pruned.kept == ("second",)
    assert pruned.module.stem.out_channels == 16
    assert pruned.module.first.out_channels == 16
    assert pruned.module.second.out_channels == 32
    assert "not narrowed: second" in str(pruned)


def test_nothing_but_padded_shortcuts_says_what_to_do() -> None:
    with pytest.raises(InexpressibleError, match=r"nothing to prune at 50%: the layers stem cannot be narrowed"):
        compress.prune(seeded(PaddedShortcut, False), example(IMAGE), Prune(0.5))


@pytest.mark.parametrize(
    ("module", "shape"), [(nn.Linear(10, 1), (1, 10)), (nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)), IMAGE)]
)
def test_nothing_to_prune(module: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(InexpressibleError, match="nothing to prune at 50%"):
        compress.prune(module, example(shape), Prune(0.5))


def test_scales_of_norms_need_norms() -> None:
    with pytest.raises(InexpressibleError, match="no batch norm") as found:
        compress.prune(
            nn.Sequential(nn.Linear(8, 32), nn.Linear(32, 3)), example((1, 8)), Prune(0.5, importance="norm-scale")
        )
    assert "magnitude" in found.value.advice


def test_a_recurrent_layer_is_named() -> None:
    class Speech(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory, self.head = nn.GRU(8, 32, batch_first=True), nn.Linear(32, 4)

        def forward(self, x: Any) -> Any:
            return self.head(self.memory(x)[0][:, -1])

    with pytest.raises(InexpressibleError, match="the layer memory is a GRU"):
        compress.prune(Speech(), example((1, 6, 8)), Prune(0.5))


def test_counts_are_those_of_the_layers() -> None:
    parameters, macs = compress.count(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), example(IMAGE))
    assert parameters == 3 * 8 * 9
    assert macs == 3 * 8 * 9 * 6 * 6


def test_same_module_same_channels() -> None:
    one, two = (compress.prune(seeded(Residual), example(IMAGE), Prune(0.5)).module.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
