"""Ask, count and time a torch module."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from edgepack.errors import InputError
from edgepack.runtimes import foreign
from edgepack.samples import Array, Arrays

_ROUNDS = 3
_ROUND_SECONDS = 0.06
_LEAST_RUNS = 5


@dataclass(frozen=True)
class HostTime:
    """milliseconds: the least median of three rounds on this machine, in torch on one thread; never a device's latency"""

    milliseconds: float
    runs: int


def tensors(arrays: Arrays) -> tuple[Any, ...]:
    """Torch tensors of arrays, copied so that nobody writes to the caller's samples."""
    import numpy as np
    import torch

    return tuple(torch.from_numpy(np.array(array)) for array in arrays)


def outputs_of(answer: Any) -> tuple[Any, ...]:
    """What a module returned as a tuple of tensors: one tensor, a tuple or list of them, or a dict in its own order."""
    if isinstance(answer, dict):
        answer = tuple(answer.values())
    return tuple(answer) if isinstance(answer, tuple | list) else (answer,)


def answer(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The module's outputs in eval mode, without gradients; its mode is put back."""
    import torch

    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return outputs_of(module(*inputs))
    finally:
        module.train(training)


def close(expected: tuple[Any, ...], actual: tuple[Any, ...], share: float) -> bool:
    """Whether every output differs by at most `share` of its range (or of its magnitude, where it is constant)."""
    for wanted, given in zip(expected, actual, strict=True):
        if not given.isfinite().all():
            return False
        span = max(float(wanted.max() - wanted.min()), float(wanted.abs().max()), 1e-12)
        if float((wanted - given).abs().max()) > share * span:
            return False
    return True


def count(module: Any, example: Arrays) -> tuple[int, int]:
    """(parameters, multiply-accumulate operations of one sample), counted by torch-pruning on a copy."""
    torch_pruning = foreign.import_framework("torch_pruning", "torch", "counting a torch module")
    with foreign.reading("counting the module's operations"):
        macs, _ = torch_pruning.utils.count_ops_and_params(module, tensors(example))
    return sum(parameter.numel() for parameter in module.parameters()), int(macs)


def measure(module: Any, example: Arrays) -> HostTime:
    """The time of one batch in eval mode on one thread, after a warm-up: what else the machine does shows in the other rounds."""
    inputs = tensors(example)
    with one_thread():
        answer(module, inputs)
        rounds = [_round(module, inputs) for _ in range(_ROUNDS)]
    return HostTime(min(median(taken) for taken in rounds) * 1e3, sum(len(taken) for taken in rounds))


def _round(module: Any, inputs: tuple[Any, ...]) -> list[float]:
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _ROUND_SECONDS:
        start = time.perf_counter()
        answer(module, inputs)
        taken.append(time.perf_counter() - start)
    return taken


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small nets gain nothing from more, and on a busy machine threads that wait for each other lose."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def labels_tensor(labels: Array) -> Any:
    """A label array as a tensor: int64 for integers and booleans, float32 for floats. Raises InputError for other dtypes."""
    import numpy as np
    import torch

    match labels.dtype.kind:
        case "i" | "u" | "b":
            return torch.from_numpy(labels.astype(np.int64))
        case "f":
            return torch.from_numpy(labels.astype(np.float32))
        case _:
            raise InputError(f"training labels are {labels.dtype}", expected="integers (classes) or floats (targets)")
