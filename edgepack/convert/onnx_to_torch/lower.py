"""A translated module to a TFLite file; where that fails, which operator it was."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from edgepack.convert.onnx_to_torch.module import OnnxModule, Step
from edgepack.convert.onnx_to_torch.node import ADVICE, Tensor
from edgepack.errors import InexpressibleError
from edgepack.runtimes import foreign

_CONVERTER = "LiteRT's converter"
_RUNTIME = "LiteRT"


def lower(module: OnnxModule, inputs: Sequence[Tensor], out: Path, source: str) -> None:
    """Write `out`, and see that LiteRT can load it. Raises InexpressibleError naming operator, node and opset."""
    try:
        _write(module, inputs, out)
    except InexpressibleError as error:
        with TemporaryDirectory() as folder:
            culprit = _culprit(module, inputs, Path(folder) / "one.tflite")
        if culprit is None:
            raise InexpressibleError(f"{source}: {error.what}", advice=ADVICE) from error
        step, reason = culprit
        raise InexpressibleError(f"{source}: TFLite cannot express {step.where}: {reason}", advice=ADVICE) from error


def _write(module: torch.nn.Module, inputs: Sequence[Tensor], out: Path) -> None:
    litert_torch = foreign.import_framework("litert_torch", "torch", "converting to TFLite")
    interpreter = foreign.import_framework("ai_edge_litert.interpreter", "tflite", "converting to TFLite")
    with _without_places(), foreign.converting(_CONVERTER):
        litert_torch.convert(module, tuple(inputs)).export(str(out))
    # The converter writes operators of StableHLO that no runtime has where TFLite has none of its own.
    with foreign.converting(_RUNTIME):
        interpreter.Interpreter(model_path=str(out)).allocate_tensors()


@contextmanager
def _without_places() -> Iterator[None]:
    """The converter's complaint without the lines of Python it came from."""
    try:
        yield
    except InexpressibleError as error:
        found = re.search(r"error: ([^%]+?)[:\s]*(%|$)", error.what)
        raise InexpressibleError(f"{_CONVERTER}: {found[1]}" if found else error.what) from error


def _culprit(module: OnnxModule, inputs: Sequence[Tensor], scratch: Path) -> tuple[Step, str] | None:
    """The first step that cannot be converted on its own, the rarest operators first; None where each can."""
    for step, alone, arguments in _alone(module, inputs):
        try:
            _write(alone, arguments, scratch)
        except InexpressibleError as error:
            return step, error.what
    return None


def _alone(module: OnnxModule, inputs: Sequence[Tensor]) -> Iterator[tuple[Step, OnnxModule, list[Tensor]]]:
    """One step of each kind (operator, dtypes and ranks) as a module, with what arrives there."""
    frequency = Counter(step.op for step in module.steps)
    found: dict[object, tuple[Step, Any, tuple[Any, ...]]] = {}
    with torch.no_grad():
        for step, call, arguments in module.run(inputs, {}):
            kind = tuple(None if a is None else (a.dtype, a.dim()) for a in arguments)
            found.setdefault((step.op, kind), (step, call, arguments))
    for step, call, arguments in sorted(found.values(), key=lambda entry: frequency[entry[0].op]):
        given = {slot: a for slot, a in zip(step.arguments, arguments, strict=True) if slot is not None}
        constants = {slot: a for slot, a in given.items() if slot in module.constants}
        arriving = {slot: a for slot, a in given.items() if slot not in constants}
        whole = Step(step.op, step.where, step.name, call, step.arguments, step.results)
        results = [slot for slot in step.results if slot is not None]
        yield step, OnnxModule([whole], list(arriving), results, constants).eval(), list(arriving.values())
