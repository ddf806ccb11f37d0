"""A project: what the user says of a model beside the model itself. `edgepack.toml`, or the same as flags."""

from __future__ import annotations

from msgspec import Struct, field

from edgepack.model import Preprocessing, TensorSpec


class ModelSection(Struct, frozen=True, forbid_unknown_fields=True):
    """source: a file, or `file.py:callable`; weights: a state_dict to load into it; inputs: shapes for a torch callable."""

    source: str = ""
    weights: str = ""
    inputs: tuple[TensorSpec, ...] = ()


class DataSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Each an `.npz` (x, y) or `file.py:callable`; metric: a name, or `file.py:callable(outputs, y) -> float`."""

    calibration: str = ""
    evaluation: str = ""
    training: str = ""
    metric: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None


class BuildSection(Struct, frozen=True, forbid_unknown_fields=True):
    """epochs: of recovery after pruning; seed: of every random choice"""

    profiles: tuple[str, ...] = ()
    epochs: int = 20
    learning_rate: float = 2e-3
    seed: int = 0


class Project(Struct, frozen=True, forbid_unknown_fields=True):
    """Paths are relative to the folder of the `edgepack.toml`, or to the working folder for flags."""

    name: str = ""
    version: str = "0.1.0"
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    build: BuildSection = field(default_factory=BuildSection)
