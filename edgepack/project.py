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
    """Data are an `.npz` (x, y) or a `file.py:callable` that yields batches of (x, y).

    calibration: samples to find value ranges with; evaluation: labelled samples that score every variant
    training: what to recover with after pruning; without it nothing is pruned
    metric: top1 top5 auc mae mse f1 psnr cosine, or `file.py:callable(outputs, y) -> float`, where higher is better
    labels: the classes' names, for applications
    preprocessing: how raw samples become the model's input
    """

    calibration: str = ""
    evaluation: str = ""
    training: str = ""
    metric: str = ""
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None


class BuildSection(Struct, frozen=True, forbid_unknown_fields=True):
    """profiles: what to build for where no `-p` says so

    epochs: of recovery after pruning; learning_rate: of the same; seed: of every random choice
    """

    profiles: tuple[str, ...] = ()
    epochs: int = 20
    learning_rate: float = 2e-3
    seed: int = 0


class Project(Struct, frozen=True, forbid_unknown_fields=True):
    """Paths are relative to the folder of the `edgepack.toml`, or to the working folder for flags.

    name: the bundle's, empty for the source's; version: the bundle's, MAJOR.MINOR.PATCH
    """

    name: str = ""
    version: str = "0.1.0"
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    build: BuildSection = field(default_factory=BuildSection)
