"""Training as a user starts it: killed and started again, in two processes under torchrun, followed by three trackers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgepack import cli, compress
from edgepack.ports import Silent

pytestmark = pytest.mark.frameworks

MODEL = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
"""
PROFILE = """
schema = "edgepack.profile/1"
title = "fast"
extends = "linux-x86_64"
[device]
systems = []
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["fp32"]
sparsities = [0.5]
[budget]
max_drop = 1
"""
PROJECT = """
name = "net"
[model]
source = "model.py:build"
[data]
training = "data.npz"
evaluation = "data.npz"
metric = "top1"
[build]
profiles = ["fast.toml"]
epochs = 60
learning_rate = 1e-2
[recover]
distil = 0.0
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("net")
    (folder / "model.py").write_text(MODEL)
    (folder / "fast.toml").write_text(PROFILE)
    (folder / "edgepack.toml").write_text(PROJECT)
    x = np.random.default_rng(0).standard_normal((2048, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, y=x[:, :3].argmax(1))
    return folder


def build_here(project: Path, home: Path, monkeypatch, capfd) -> tuple[dict, str]:
    monkeypatch.setenv("EDGEPACK_HOME", str(home))
    monkeypatch.chdir(project)
    capfd.readouterr()
    code = cli.run(["build", ".", "-o", str(home / "out"), "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    return json.loads(out)["bundles"][0], err


def last_loss(said: str) -> float:
    return float(re.findall(r"epoch 60/60: loss ([0-9.]+)", said)[-1])


@pytest.fixture
def undisturbed(project: Path, tmp_path: Path, monkeypatch, capfd) -> tuple[dict, str]:
    return build_here(project, tmp_path / "undisturbed", monkeypatch, capfd)


def test_a_killed_training_goes_on_and_two_processes_train_as_one(project, undisturbed, tmp_path, monkeypatch, capfd):
    whole, said = undisturbed
    home = tmp_path / "killed"
    kill_while_it_trains(project, home)
    resumed, err = build_here(project, home, monkeypatch, capfd)
    assert "training goes on after epoch" in err
    assert resumed["digest"] == whole["digest"], "byte for byte what an undisturbed run packs"
    assert not list((home / "cache/training").glob("*.pt"))
    assert "takes" not in said, "without an unpruned variant there is nothing to compare the time with"

    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "edgepack"]
    env = {**os.environ, "EDGEPACK_HOME": str(tmp_path / "two"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *command, "build", ".", "-o", str(tmp_path / "two-out"), "--json"],
        cwd=project, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (two,) = json.loads(done.stdout)["bundles"]
    (one_variant,), (two_variant,) = whole["variants"], two["variants"]
    assert last_loss(done.stderr) == pytest.approx(last_loss(said), rel=0.05)
    assert two_variant["score"] == pytest.approx(one_variant["score"], abs=0.01)
    assert one_variant["score"] > 0.95


def kill_while_it_trains(project: Path, home: Path) -> None:
    """kill -9 as soon as an epoch is kept."""
    command = [sys.executable, "-m", "edgepack", "build", ".", "-o", str(home / "out")]
    process = subprocess.Popen(
        command, cwd=project, env={**os.environ, "EDGEPACK_HOME": str(home)}, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    while not list((home / "cache/training").glob("*.pt")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_every_tracker_hears_the_same_numbers(tmp_path, monkeypatch, capfd):
    """The real libraries, each asked for what it has written."""
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    with compress.tracking(("tensorboard", "wandb", "mlflow"), "net", "s50", {"epochs": 2}, Silent()) as trackers:
        for tracker in trackers:
            tracker.log(1, {"loss": 0.5, "learning_rate": 0.1})
            tracker.log(2, {"loss": 0.25, "learning_rate": 0.05})
    assert capfd.readouterr().out == ""

    from mlflow.tracking import MlflowClient
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path / "tracking/tensorboard/net/s50")).Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    client = MlflowClient(f"sqlite:///{tmp_path}/tracking/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("net").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.params["epochs"]) == ("s50", "FINISHED", "2")
    assert [point.value for point in client.get_metric_history(run.info.run_id, "loss")] == [0.5, 0.25]
    (kept,) = (tmp_path / "tracking/wandb").glob("offline-run-*/run-*.wandb")
    assert kept.stat().st_size > 0


CONVOLUTIONS = """
import torch
from torch import nn


def build():
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 10))
"""
INTEGERS = """
schema = "edgepack.profile/1"
title = "integers"
extends = "linux-x86_64"
[device]
systems = []
[compress]
precisions = ["w8a8"]
sparsities = [0.5]
[budget]
max_drop = 1
"""


def test_what_was_trained_for_integers_computes_on_them_in_both_formats(tmp_path, monkeypatch, capfd):
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    x = (pixels / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    (tmp_path / "model.py").write_text(CONVOLUTIONS + "    # untrained: recovery and rehearsal do all of it\n")
    (tmp_path / "fast.toml").write_text(INTEGERS)
    (tmp_path / "edgepack.toml").write_text(
        PROJECT.replace("epochs = 60", "epochs = 4\nqat = true").replace("[data]", '[data]\ncalibration = "data.npz"')
        + "[qat]\nepochs = 2\n"
    )
    np.savez(tmp_path / "data.npz", x=x[:600], y=labels[:600])
    document, said = build_here(tmp_path, tmp_path / "home", monkeypatch, capfd)
    variants = {variant["id"]: variant for variant in document["variants"]}
    assert set(variants) == {f"net.fast.w8a8-s50{qat}.{f}" for qat in ("", "-qat") for f in ("tflite", "onnx")}
    assert "epoch 4/4" in said and "epoch 2/2" in said
    for format in ("tflite", "onnx"):
        plain, rehearsed = variants[f"net.fast.w8a8-s50.{format}"], variants[f"net.fast.w8a8-s50-qat.{format}"]
        assert rehearsed["score"] > 0.9 and rehearsed["score"] > plain["score"] - 0.03
        assert rehearsed["parity"]["sqnr_db"] > 15
        assert abs(rehearsed["size_bytes"] - plain["size_bytes"]) < 1000
    notes = [json.loads(file.read_bytes()) for file in (tmp_path / "home/cache/steps").glob("*/measured.json")]
    integers = [note["notes"] for note in notes if any("operators in w8a8" in said for said in note["notes"])]
    assert len(integers) == 4 and all(int(said[0].split()[0]) >= 3 for said in integers), integers
