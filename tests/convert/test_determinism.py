"""The same inputs give the same bytes: in another process, in another working folder, with the code in another place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.frameworks]

HERE = Path(__file__).parent
CONVERT = """
import sys
from pathlib import Path
import numpy as np
from edgepack import convert, digest
from edgepack.cli.progress import Plain
from edgepack.model import TensorSpec
from edgepack.project import ModelSection, Project
from edgepack.samples import Samples
from edgepack.sources import load

folder, formats = Path(sys.argv[1]), sys.argv[2:]
for source in ("torch_nets.py:cnn", "keras_nets.py:cnn", "keras_nets.py:lstm"):
    inputs = (TensorSpec("image", (1, 1, 8, 8)),) if source.startswith("torch") else ()
    loaded = load(Project(model=ModelSection(source=source, inputs=inputs)), folder, Plain())
    x = np.random.default_rng(0).standard_normal((2, *loaded.model.signature.inputs[0].shape[1:]), np.float32)
    print(source, loaded.model.digest)
    for to in formats:
        out = Path(f"{source.replace(':', '.')}.{to}").absolute()
        convert.convert(loaded, to, out, Samples((x,), None, digest.of_bytes(b"")), Plain())
        print(source, to, digest.of_file(out))
        words = out.read_bytes()
        assert str(folder).encode() not in words and b"Traceback" not in words and b"File " not in words
"""


def test_in_another_process_and_place(tmp_path):
    """Two processes side by side: other folders, another order of sets, the two formats in another order."""
    runs = []
    for place, formats in (("one", ["onnx", "tflite"]), ("two", ["tflite", "onnx"])):
        folder = tmp_path / place / "code"
        folder.mkdir(parents=True)
        for name in ("torch_nets.py", "keras_nets.py"):
            shutil.copy(HERE / name, folder / name)
        command = [sys.executable, "-c", CONVERT, str(folder), *formats]
        environment = {**os.environ, "PYTHONHASHSEED": str(len(runs) + 1)}
        pipe = subprocess.PIPE
        runs.append(
            subprocess.Popen(command, cwd=tmp_path / place, env=environment, stdout=pipe, stderr=pipe, text=True)
        )
    said = []
    for run in runs:
        out, err = run.communicate(timeout=900)
        assert run.returncode == 0, err[-3000:]
        said.append(sorted(out.splitlines()))
    assert said[0] == said[1]
    assert len(said[0]) == 9
