"""Open and run a model file on this machine, with the very code that runs it on a board (`edgepack.device.run`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from edgepack.device.run import ModelError, Quantization, Tensor, open_model
from edgepack.errors import InputError
from edgepack.model import TensorSpec
from edgepack.names import FileFormat
from edgepack.quiet import quiet
from edgepack.runtimes import foreign
from edgepack.samples import Arrays, Run


@dataclass(frozen=True)
class Opened:
    """An open model file.

    inputs, outputs: as a caller sees them, real values where the file stores integers with a scale; None is an open size
    stored_inputs, stored_outputs: that scale, None for what is stored as it is seen
    run: one batch in, its outputs out; raises InputError when the runtime fails on it
    runtime: name and version
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    stored_inputs: tuple[Quantization | None, ...]
    stored_outputs: tuple[Quantization | None, ...]
    run: Run
    runtime: str


def open_file(path: Path, format: FileFormat, threads: int = 1) -> Run:
    """A model file as something that can be asked. Raises InputError for a broken file, UsageError for a missing extra."""
    return open_session(path, format, threads).run


def outputs_signature(path: Path, format: FileFormat) -> tuple[TensorSpec, ...]:
    """The outputs that a model file declares, in order."""
    return open_session(path, format).outputs


def open_session(path: Path, format: FileFormat, threads: int = 1) -> Opened:
    """As `open_file`, with what the file says of its inputs and outputs."""
    runtime = _require(format)
    with _refusals(path.name), quiet():
        session = open_model(path, runtime, threads)

    def run(arrays: Arrays) -> Arrays:
        with _refusals(path.name):
            return tuple(session.run(arrays))

    return Opened(
        _specs(session.inputs),
        _specs(session.outputs),
        tuple(session.quantized_inputs),
        tuple(session.quantized_outputs),
        run,
        f"{session.runtime} {session.version}",
    )


def _require(format: FileFormat) -> str:
    match format:
        case "onnx":
            foreign.import_framework("onnxruntime", "onnx", "running an ONNX model")
            return "onnxruntime"
        case "tflite":
            foreign.import_framework("ai_edge_litert.interpreter", "tflite", "running a TFLite model")
            return "litert"
        case _:
            assert_never(format)


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    try:
        yield
    except (ModelError, ValueError, RuntimeError) as error:  # LiteRT's interpreter raises the last two when it runs
        text = foreign.first_line(error) if not isinstance(error, ModelError) else str(error)
        raise InputError(
            f"{name}: {text}", advice="check that the file is whole and that its runtime knows its operators"
        ) from error


def _specs(tensors: list[Tensor]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(tensor.name, tensor.shape, tensor.dtype) for tensor in tensors)
