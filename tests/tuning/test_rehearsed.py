"""A search over a module that is trained for quantization, pruned or not: made, scored, gone on with, packed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack import pipeline, tuning
from edgepack.names import VariantId
from edgepack.ports import Silent
from edgepack.recipe import Prune, Rehearse

pytestmark = pytest.mark.frameworks

MODEL = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    return net.eval()
"""
PROFILE = """
schema = "edgepack.profile/1"
title = "ONNX alone"
extends = "linux-x86_64"
[device]
systems = []
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["w8a8"]
sparsities = [0.0, 0.5]
[budget]
max_drop = 1
"""
PROJECT = """
name = "net"
[model]
source = "model.py:build"
[data]
calibration = "data.npz"
evaluation = "data.npz"
training = "data.npz"
metric = "top1"
[build]
profiles = ["here.toml"]
epochs = 2
qat = true
[qat]
epochs = 6
learning_rate = 2e-2
[recover]
distil = 0.0
"""


class Noted(Silent):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def test_a_search_trains_for_quantization_and_goes_on(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, y=x[:, :3].argmax(1))
    for name, text in (("model.py", MODEL), ("here.toml", PROFILE), ("edgepack.toml", PROJECT)):
        (tmp_path / name).write_text(text)

    def run(trials: int, told: Noted) -> tuning.Tuned:
        wanted = pipeline.request(str(tmp_path), (str(tmp_path / "here.toml"),), {})
        return tuning.tune(wanted, tmp_path / "out", tuning.Limits(seconds=None, trials=trials), told)

    first = run(4, told := Noted())
    assert sum(note.startswith("epoch 6/6") for note in told.notes) == 2, "once pruned and once not"
    built = {one.built.id: one.built for one in first.outcomes}
    names = ("w8a8", "w8a8-s50", "w8a8-qat", "w8a8-s50-qat")
    assert set(built) == {f"net.here.{name}.onnx" for name in names} and not first.unusable
    assert len({one.digest for one in built.values()}) == 4, "training changed the weights"
    for id, one in built.items():
        steps = [type(step) for step in one.recipe]
        assert ("-qat" in id) == (Rehearse in steps) and ("-s50" in id) == (Prune in steps)
    alone, rehearsed = built[VariantId("net.here.w8a8.onnx")], built[VariantId("net.here.w8a8-qat.onnx")]
    assert rehearsed.score > alone.score, "the source knows nothing, whoever trains it longer knows more"
    judged = {one.built.id: one for one in first.result.judged}
    packed = {record.id for record in first.result.bundle.manifest.variants}
    assert packed == {id for id, one in judged.items() if one.status != "rejected"} and first.result.default in packed

    again = run(5, told := Noted())
    assert any("goes on: 4 trials are done" in note for note in told.notes)
    assert again.study == first.study and again.outcomes[:4] == first.outcomes and len(again.outcomes) == 5
    made = again.outcomes[4].built
    assert not sum(note.startswith("epoch") for note in told.notes) or made.sparsity, "what was trained is kept"
