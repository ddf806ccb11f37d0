"""The nets that the benchmark trains itself, each in about a minute on one thread, seeded."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressing.sets import Labelled


class SqueezeExcite(nn.Module):
    """Hu et al. 2018 (arXiv 1709.01507) with a hard sigmoid, as in MobileNetV3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.widen(F.relu(self.narrow(x.mean((2, 3), keepdim=True)))))


class Bottleneck(nn.Module):
    """Inverted residual with squeeze and excitation and hard swish (Howard et al. 2019, arXiv 1905.02244)."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.Hardswish()),
            *(
                nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
                nn.BatchNorm2d(hidden),
                nn.Hardswish(),
            ),
            *(SqueezeExcite(hidden), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


def hardswish_se() -> nn.Module:
    """[n, 3, 32, 32] → 10 logits."""
    rows = ((16, 48, 24, 1), (24, 72, 40, 2), (40, 120, 64, 2))
    stem = [nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish()]
    head = [
        nn.Conv2d(64, 192, 1, bias=False),
        nn.BatchNorm2d(192),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ]
    return nn.Sequential(*stem, *(Bottleneck(*row) for row in rows), *head, nn.Linear(192, 10))


def activity_cnn() -> nn.Module:
    """[n, 6, 128] → 5 logits."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv1d(inputs, outputs, 5, padding=2), nn.BatchNorm1d(outputs), nn.ReLU(), nn.MaxPool1d(2)]

    return nn.Sequential(
        *block(6, 32), *block(32, 48), *block(48, 64), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 5)
    )


def digit_dscnn() -> nn.Module:
    """[n, 1, 64, 32] → 10 logits; depthwise separable (Zhang et al. 2017, arXiv 1711.07128)."""

    def block(width: int) -> list[nn.Module]:
        depthwise = [nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        return [*depthwise, nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]

    width = 48
    stem = [nn.Conv2d(1, width, (10, 4), 2, (4, 1), bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    blocks = [layer for _ in range(4) for layer in block(width)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(width, 10))


class ActivityLSTM(nn.Module):
    """[n, 6, 128] → 5 logits, from the mean over time."""

    def __init__(self) -> None:
        super().__init__()
        self.recur, self.classify = nn.LSTM(6, 64, batch_first=True), nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.recur(x.transpose(1, 2))[0].mean(1))


class Attention(nn.Module):
    """One pre-norm encoder layer (Vaswani et al. 2017, arXiv 1706.03762), spelled in products so that every route takes it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        normed = self.before(x)
        query, key, value = (
            layer(normed).reshape(n, tokens, self.heads, width // self.heads).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        weights = torch.softmax(query @ key.transpose(2, 3) * (width // self.heads) ** -0.5, -1)
        x = x + self.project((weights @ value).transpose(1, 2).reshape(n, tokens, width))
        return x + self.contract(F.gelu(self.expand(self.after(x))))


class DigitTransformer(nn.Module):
    """[n, 1, 64, 32] → 10 logits; a frame is a token."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed, self.position = nn.Linear(32, width), nn.Parameter(torch.randn(1, 64, width) * 0.02)
        self.layers = nn.Sequential(Attention(width, 4), Attention(width, 4), nn.LayerNorm(width))
        self.classify = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.layers(self.embed(x.squeeze(1)) + self.position).mean(1))


@dataclass(frozen=True)
class Recipe:
    """shift: training samples are mirrored and moved by up to so many pixels"""

    make: Callable[[], nn.Module]
    epochs: int
    shift: int = 0


def _scans() -> nn.Module:
    from models import digits

    return digits().module


RECIPES = {
    "hardswish_se": Recipe(hardswish_se, 4, shift=3),
    "activity_cnn": Recipe(activity_cnn, 12),
    "digit_dscnn": Recipe(digit_dscnn, 14),
    "activity_lstm": Recipe(ActivityLSTM, 12),
    "digit_transformer": Recipe(DigitTransformer, 20),
    "scans_cnn": Recipe(_scans, 3),
}


def train(name: str, training: Labelled, rate: float = 3e-3) -> nn.Module:
    """On one thread, AdamW with a one-cycle schedule, label smoothing 0.1."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    module, epochs = recipe.make(), recipe.epochs
    x, y = torch.from_numpy(training.x), torch.from_numpy(training.y)
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=1e-2)
    steps = epochs * (len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    start = time.perf_counter()
    module.train()
    for epoch in range(epochs):
        for index in torch.randperm(len(x), generator=generator)[: len(x) // 64 * 64].split(64):
            batch = _augment(x[index], recipe.shift, generator) if recipe.shift else x[index]
            loss = F.cross_entropy(module(batch), y[index], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"epoch {epoch + 1}/{epochs}, {time.perf_counter() - start:.0f} s: loss {loss.item():.3f}", file=sys.stderr
        )
    return module.eval()


def _augment(batch: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    if torch.rand((), generator=generator) < 0.5:
        batch = batch.flip(-1)
    down, right = (int(torch.randint(-shift, shift + 1, (), generator=generator)) for _ in range(2))
    return batch.roll((down, right), (-2, -1))
