"""Users' files, made small: models in every format and sample files, right and wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepack.model import TensorSpec
from edgepack.ports import Loaded, Progress
from edgepack.project import DataSection, ModelSection, Project
from edgepack.sources import load

LINEAR = """
import torch
from torch import nn


class LinearRegression(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(10, 1)

    def forward(self, features):
        return self.linear(features)


def build():
    torch.manual_seed(0)
    return LinearRegression()
"""


@pytest.fixture
def load_source(progress: Progress, tmp_path: Path) -> Callable[..., Loaded]:
    def run(source: str, *inputs: TensorSpec, weights: str = "", calibration: str = "") -> Loaded:
        project = Project(
            model=ModelSection(source=source, inputs=inputs, weights=weights),
            data=DataSection(calibration=calibration),
        )
        return load(project, tmp_path, progress)

    return run


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """`linear.py:build`, and `linear.npz` to calibrate it with."""
    (tmp_path / "linear.py").write_text(LINEAR)
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "linear.npz", x=rng.standard_normal((30, 10)), y=rng.standard_normal((30, 1)))
    return tmp_path
