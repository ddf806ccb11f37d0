"""The three models of benchmarks/chain: a released ResNet-20, the demo's digits net, a MobileNetV2 without trained weights."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

DIGITS = Path(__file__).parent.parent / "edgepack" / "demo" / "digits"


@dataclass(frozen=True)
class Subject:
    """module: in eval mode; calibration: [100, ...] float32; evaluation and labels: what `build` scores on"""

    name: str
    module: nn.Module
    calibration: NDArray[np.float32]
    evaluation: NDArray[np.float32]
    labels: NDArray[np.int64]


def assets() -> Path:
    """The folder of released models and data, `$EDGEPACK_ASSETS`."""
    folder = os.environ.get("EDGEPACK_ASSETS")
    if not folder:
        sys.exit("benchmarks/chain: set EDGEPACK_ASSETS to the folder that holds cifar-resnet-torch and mlperf-tiny-ic")
    return Path(folder)


def _load(file: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resnet20() -> Subject:
    """CIFAR-10 ResNet-20 with its released weights; 200 lossless test images."""
    folder = assets() / "cifar-resnet-torch"
    module = _load(folder / "model.py", "cifar_resnet").load(str(folder / "resnet20-12fca82f.th"))
    data = np.load(assets() / "mlperf-tiny-ic" / "eval200.npz")
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = np.ascontiguousarray(((data["x"].astype(np.float32) / 255 - mean) / std).transpose(0, 3, 1, 2))
    return Subject("resnet20", module, images[::2], images, data["y"].astype(np.int64))


def digits() -> Subject:
    """The demo's net with random weights: what is timed does not depend on them."""
    torch.manual_seed(0)
    module = _load(DIGITS / "model.py", "digits_model").build().eval()
    data = _load(DIGITS / "data.py", "digits_data")
    x, y = next(data.evaluation())
    return Subject("digits", module, next(data.calibration())[0][:100], x, y)


class _Inverted(nn.Module):
    """Inverted residual (Sandler et al. 2018, arXiv 1801.04381, table 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int):
        super().__init__()
        hidden = inputs * expand
        wide = [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()] if expand > 1 else []
        self.layers = nn.Sequential(
            *wide,
            *(nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()),
            *(nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.shortcut else self.layers(x)


class MobileNetV2(nn.Module):
    """Input [n, 3, 96, 96], output logits [n, 1000]; width 1.0, 3.5 M parameters."""

    ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()]
        width = 32
        for expand, outputs, count, stride in self.ROWS:
            for index in range(count):
                layers.append(_Inverted(width, outputs, stride if index == 0 else 1, expand))
                width = outputs
        layers += [nn.Conv2d(width, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classify = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def mobilenetv2() -> Subject:
    """MobileNetV2 at 96 × 96, random weights, its own answers as labels."""
    torch.manual_seed(0)
    module = MobileNetV2().eval()
    x = np.random.default_rng(0).standard_normal((150, 3, 96, 96)).astype(np.float32)
    with torch.no_grad():
        labels = module(torch.from_numpy(x)).argmax(1).numpy()
    return Subject("mobilenetv2", module, x[:100], x[100:], labels[100:])


SUBJECTS = {"resnet20": resnet20, "digits": digits, "mobilenetv2": mobilenetv2}
