"""Small nets of every kind, loaded and converted the way a build does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepack import convert, evaluate, runtimes
from edgepack.digest import of_bytes
from edgepack.model import Signature, TensorSpec
from edgepack.names import FileFormat
from edgepack.ports import Loaded, Progress
from edgepack.project import ModelSection, Project
from edgepack.samples import Arrays, Samples, over
from edgepack.sources import load
from edgepack.variant import Parity

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Converted:
    """A source, its converted file, and both sides' answers to the same samples."""

    loaded: Loaded
    path: Path
    samples: Samples
    expected: Arrays
    actual: Arrays

    @property
    def parity(self) -> Parity:
        found = evaluate.parity(self.expected, self.actual)
        evaluate.check_float(found, self.expected, self.actual)
        return found


def seeded_samples(signature: Signature, count: int = 6) -> Samples:
    rng = np.random.default_rng(7)

    def draw(spec: TensorSpec) -> np.ndarray:
        shape = (count, *spec.shape[1:])
        return (rng.integers(0, 10, shape) if "int" in spec.dtype else rng.standard_normal(shape)).astype(spec.dtype)

    return Samples(tuple(draw(spec) for spec in signature.inputs), None, of_bytes(b"7"))


@pytest.fixture
def load_source(progress: Progress) -> Callable[..., Loaded]:
    def run(source: str, *inputs: TensorSpec, folder: Path = HERE) -> Loaded:
        return load(Project(model=ModelSection(source=source, inputs=inputs)), folder, progress)

    return run


@pytest.fixture
def convert_to(progress: Progress, tmp_path: Path) -> Callable[[Loaded, FileFormat], Converted]:
    def run(loaded: Loaded, to: FileFormat) -> Converted:
        samples = seeded_samples(loaded.model.signature)
        path = tmp_path / f"converted.{to}"
        convert.convert(loaded, to, path, samples, progress)
        opened = runtimes.open_session(path, to)
        return Converted(loaded, path, samples, over(loaded.run, samples), over(opened.run, samples))

    return run
