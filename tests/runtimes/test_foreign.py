"""Frameworks are imported quietly, and what they raise gets a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgepack.errors import InexpressibleError, InputError, UsageError
from edgepack.runtimes import foreign


def test_a_framework_that_is_not_installed_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(UsageError, match=r"converting needs the package(.|\n)*pip install 'edgepack\[torch\]'"):
        foreign.import_framework("litert_torch", "torch", "converting")


def test_any_exception_is_named_and_chained():
    with (
        pytest.raises(InputError, match=r"m\.onnx: KeyError: 'a'") as caught,
        foreign.reading("m.onnx", advice="again"),
    ):
        _ = {}["a"]
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.advice == "again"


def test_our_own_errors_pass():
    original = InputError("ours")
    with pytest.raises(InputError) as caught, foreign.converting("theirs"):
        raise original
    assert caught.value is original


def test_an_interrupt_passes():
    with pytest.raises(KeyboardInterrupt), foreign.reading("m.onnx"):
        raise KeyboardInterrupt


def test_what_cannot_be_converted_is_inexpressible():
    with (
        pytest.raises(InexpressibleError, match="to onnx: ValueError: no such operator"),
        foreign.converting("to onnx"),
    ):
        raise ValueError("\n  -----\n  no such operator\n more")


def test_the_innermost_cause_is_told():
    with pytest.raises(InputError, match="ValueError: inner"), foreign.reading("m"):
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise RuntimeError("outer") from error


@pytest.mark.parametrize("room", ["sources", "convert", "evaluate", "runtimes"])
def test_no_room_imports_a_framework_when_it_is_imported(room):
    code = (
        f"import sys, edgepack.{room}; heavy = {{'torch', 'tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_litert',"
        "'litert_torch', 'tf2onnx', 'jax'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ROUTES = {
    ("torch_nets.py:linear", "onnx"): {"tensorflow", "keras", "litert_torch", "jax"},
    ("torch_nets.py:linear", "tflite"): {"tensorflow", "keras"},
    ("keras_nets.py:linear", "tflite"): {"torch", "litert_torch", "jax"},
    ("keras_nets.py:linear", "onnx"): {"torch", "litert_torch", "jax"},
}
CONVERT = """
import sys
from pathlib import Path
import numpy as np
from edgepack import convert, digest
from edgepack.cli.progress import Plain
from edgepack.model import TensorSpec
from edgepack.project import ModelSection, Project
from edgepack.runtimes import foreign
from edgepack.samples import Samples
from edgepack.sources import load

folder, source, to, out, *unwanted = sys.argv[1:]
if source.startswith("keras"):  # as for a file; what a user's own file imports is the user's
    foreign.import_framework("tensorflow", "keras", "this test")
inputs = (TensorSpec("features", (1, 10)),) if source.startswith("torch") else ()
loaded = load(Project(model=ModelSection(source=source, inputs=inputs)), Path(folder), Plain())
x = np.zeros((1, *loaded.model.signature.inputs[0].shape[1:]), np.float32)
convert.convert(loaded, to, Path(out), Samples((x,), None, digest.of_bytes(b"")), Plain())
found = set(unwanted) & set(sys.modules)
sys.exit(f"imported {found}" if found else 0)
"""


@pytest.mark.frameworks
@pytest.mark.parametrize(("source", "to"), ROUTES)
def test_a_route_imports_only_what_it_needs(source, to, tmp_path):
    """Each framework costs hundreds of megabytes; and nothing of their chatter reaches standard output."""
    folder = Path(__file__).parents[1] / "convert"
    command = [sys.executable, "-c", CONVERT, str(folder), source, to, str(tmp_path / f"m.{to}"), *ROUTES[source, to]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if not line.startswith(("load ", "convert "))] == []
