"""A project: what the user says of a model beside the model itself. `edgepack.toml`, or the same as flags."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from edgepack.model import Preprocessing, TensorSpec
from edgepack.recipe import Choice, Count, Method, Rate, Several

Log = Literal["tensorboard", "wandb", "mlflow"]
Pattern = Literal["channels", "unstructured", "2:4"]


class ModelSection(Struct, frozen=True, forbid_unknown_fields=True):
    """source: a file, or `file.py:callable`; weights: a state_dict to load into it; inputs: shapes for a torch callable."""

    source: str = ""
    weights: str = ""
    inputs: tuple[TensorSpec, ...] = ()


class DataSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Data are an `.npz` (x, y) or a `file.py:callable` that yields batches of (x, y).

    calibration: samples to find value ranges with; evaluation: labelled samples that score every variant
    training: what to recover with after pruning; without it, or without evaluation data, nothing is pruned
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
    qat: whether each static precision is also built from a module that was trained for it (variants ending in `-qat`),
    with training and evaluation data only; off, because it trains once more a sparsity
    log: where training is followed: tensorboard, wandb, mlflow
    """

    profiles: tuple[str, ...] = ()
    epochs: Several = 20
    learning_rate: Rate = 2e-3
    seed: Count = 0
    qat: bool = False
    log: tuple[Log, ...] = ()


class PruneSection(Choice, frozen=True, forbid_unknown_fields=True):
    """pattern: whole `channels`; of `unstructured` and `2:4` zeros edgepack says why it does not make them

    importance: of a channel: the L2 `magnitude` of its weights, `taylor` (what the loss would change by without it, from
    gradients on the training data), or `norm-scale` (its batch norm's scale)
    scope: whether each `layer` loses the share, or the model as a whole (`global`), the least important layers most
    """

    pattern: Pattern = "channels"


class QatSection(Struct, frozen=True, forbid_unknown_fields=True):
    """Of training for quantization, which `[build] qat` asks for; all else of it is as `[recover]` says.

    epochs: passes over the training data; learning_rate: the schedule's peak
    """

    epochs: Several = 5
    learning_rate: Rate = 2e-4


class Project(Struct, frozen=True, forbid_unknown_fields=True):
    """Paths are relative to the folder of the `edgepack.toml`, or to the working folder for flags.

    name: the bundle's, empty for the source's; version: the bundle's, MAJOR.MINOR.PATCH
    """

    name: str = ""
    version: str = "0.1.0"
    model: ModelSection = field(default_factory=ModelSection)
    data: DataSection = field(default_factory=DataSection)
    build: BuildSection = field(default_factory=BuildSection)
    prune: PruneSection = field(default_factory=PruneSection)
    recover: Method = field(default_factory=Method)
    qat: QatSection = field(default_factory=QatSection)
