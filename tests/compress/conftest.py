"""One digits net trained for the session, in torch, ONNX and TFLite, and tiny nets made to be difficult."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from edgepack import compress
from edgepack.digest import Digest
from edgepack.names import FileFormat
from edgepack.quiet import quiet
from edgepack.recipe import Recover
from edgepack.samples import Array, Arrays, Samples, TrainingData

T = TypeVar("T")
HELD_OUT = 450
Write = Callable[..., Path]
"""write(module, shape of its input, format, dtype of its input)"""


@dataclass
class Heard:
    """A Progress that remembers."""

    notes: list[str] = field(default_factory=list)

    def step(self, title: str) -> AbstractContextManager[None]:
        return nullcontext()

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        yield from items

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.notes.append(message)


class DigitsNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.features(x).flatten(1))


@dataclass(frozen=True)
class Digits:
    train_x: Array
    train_y: Array
    test_x: Array
    test_y: Array

    @property
    def training(self) -> TrainingData:
        def batches(epoch: int) -> Iterator[tuple[Arrays, Array]]:
            for start in range(0, len(self.train_x), 64):
                yield (self.train_x[start : start + 64],), self.train_y[start : start + 64]

        return TrainingData(batches, Digest("sha256:digits"))

    @property
    def calibration(self) -> Samples:
        return Samples((self.train_x[:100],), None, Digest("sha256:calibration"))

    @property
    def evaluation(self) -> Samples:
        return Samples((self.test_x,), self.test_y, Digest("sha256:evaluation"))

    def accuracy(self, module: Any) -> float:
        with torch.no_grad():
            answers = module(torch.from_numpy(self.test_x)).argmax(1).numpy()
        return float((answers == self.test_y).mean())


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="session")
def digits() -> Digits:
    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = order[:-HELD_OUT], order[-HELD_OUT:]
    return Digits(x[train], labels[train], x[test], labels[test])


@pytest.fixture(scope="session")
def teacher(digits: Digits) -> nn.Module:
    torch.manual_seed(0)
    net = DigitsNet()
    trained: nn.Module = compress.recover(net, net, digits.training, Recover(epochs=6, distil=0.0), Heard())
    return trained


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write a torch module as a float model file."""

    def to_file(
        module: nn.Module, shape: tuple[int, ...], format: FileFormat, dtype: torch.dtype = torch.float32
    ) -> Path:
        path = tmp_path_factory.mktemp("float") / f"model.{format}"
        module = module.eval()
        example = (torch.zeros(shape, dtype=dtype),)
        with quiet():
            if format == "onnx":
                torch.onnx.export(module, example, str(path), dynamo=True, opset_version=18, external_data=False)
            else:
                import litert_torch

                litert_torch.convert(module, example).export(str(path))
        return path

    return to_file


@pytest.fixture(scope="session")
def float_files(teacher: nn.Module, write: Write) -> dict[FileFormat, Path]:
    return {"onnx": write(teacher, (1, 1, 8, 8), "onnx"), "tflite": write(teacher, (1, 1, 8, 8), "tflite")}
