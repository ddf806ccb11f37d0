"""A net on scikit-learn's digits, as an ONNX file, and a real PostgreSQL of the tests' own."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

PROFILE = """
schema = "edgepack.profile/1"
title = "this machine, ONNX alone"
extends = "linux-x86_64"
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["w8a8", "w8d", "fp16", "fp32"]
[budget]
max_drop = 0.05
"""
METRIC = '''
"""Top-1, which may stop for ever at its n-th call in one process: a worker that is killed is in the middle of a trial."""
import os
import time
from pathlib import Path

calls = 0


def top1(outputs, y):
    global calls
    calls += 1
    if str(calls) == os.environ.get("HANG_AT"):
        Path(os.environ["HANG_FILE"]).touch()
        time.sleep(600)
    return float((outputs.argmax(1) == y).mean())
'''


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx (two dense layers, fitted by least squares), its data, a profile and a metric."""
    datasets = pytest.importorskip("sklearn.datasets")
    folder = tmp_path_factory.mktemp("digits")
    loaded = datasets.load_digits()
    x, y = (loaded.data / 16).astype(np.float32), loaded.target
    write_net(folder / "net.onnx", x[:1000], y[:1000])
    np.savez(folder / "calibration.npz", x=x[:64])
    np.savez(folder / "evaluation.npz", x=x[1000:1400], y=y[1000:1400])
    (folder / "here.toml").write_text(PROFILE)
    (folder / "metric.py").write_text(METRIC)
    return folder


def write_net(path: Path, x: np.ndarray, y: np.ndarray) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    random = np.random.default_rng(0)
    first = random.standard_normal((64, 128)).astype(np.float32) / 4
    hidden = np.maximum(x @ first, 0)
    second = np.linalg.lstsq(hidden, np.eye(10)[y], rcond=1e-4)[0].astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "second"], ["y"]),
        ],
        "digits",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 64])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 10])],
        [onnx.numpy_helper.from_array(value, name) for name, value in (("first", first), ("second", second))],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database: a server of its own, below a temporary folder, on a free port of the loopback interface.

    PostgreSQL refuses to run as root: there it runs as `nobody`, in a folder outside of pytest's, into which only root may look.
    Mark its tests `postgres`.
    """
    with tempfile.TemporaryDirectory(prefix="edgepack-postgres-") as folder:
        yield from serve_postgres(Path(folder))


def serve_postgres(folder: Path) -> Iterator[str]:
    programs = postgres_programs()
    assert programs is not None, "the marker's probe found it"
    user = "nobody" if os.geteuid() == 0 else getpass.getuser()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if os.geteuid() == 0:
        account = pwd.getpwnam(user)
        os.chown(folder, account.pw_uid, account.pw_gid)
    data = folder / "data"
    options = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    made = subprocess.run(
        [
            programs / "initdb",
            "--pgdata",
            data,
            "--username",
            "tester",
            "--auth",
            "trust",
            "--no-sync",
            "--locale",
            "C.UTF-8",
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        **options,
    )
    assert made.returncode == 0, made.stderr
    command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "fsync=off"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **options) as server,
    ):
        try:
            ready = [programs / "pg_isready", "-h", "127.0.0.1", "-p", str(port), "-t", "30"]
            for _ in range(100):
                if subprocess.run(ready, capture_output=True).returncode == 0:
                    break
                assert server.poll() is None, (folder / "log").read_text()
            yield f"postgresql://tester@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # what ends it at once; SIGTERM waits for whoever is connected


def postgres_programs() -> Path | None:
    """Where Debian's packages put initdb and postgres, the newest version; or wherever PATH has them."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = versions[-1] if versions else shutil.which("initdb")
    return Path(found).parent if found else None
