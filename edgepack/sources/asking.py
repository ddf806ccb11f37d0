"""A model that is asked through its signature: what goes in is checked against it, NaN that comes out is an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any

import numpy as np

from edgepack.errors import BugError, InputError
from edgepack.model import TensorSpec
from edgepack.samples import Array, Arrays, Run
from edgepack.sources.signatures import Specs


def checked(source: str, inputs: Specs, names: Sequence[str], ask: Callable[[Arrays], Sequence[Any]]) -> Run:
    """`ask` behind the signature. The Run raises InputError naming the output in which a NaN was found."""

    def run(arrays: Arrays) -> Arrays:
        _check_arrays(source, inputs, arrays)
        with redirect_stdout(sys.stderr):  # a user's module may print
            outputs = tuple(np.asarray(output) for output in ask(arrays))
        for name, output in zip(names, outputs, strict=True):
            if output.dtype.kind == "f" and np.isnan(output).any():
                raise InputError(
                    f"{source}: output {name!r} is NaN for a real sample",
                    expected="finite numbers",
                    advice="check the weights, and that the samples are preprocessed as in training",
                )
        return outputs

    return run


def zeros(inputs: Specs) -> Arrays:
    """One batch of zeros in the signature's shapes: enough to learn the outputs' shapes."""
    return tuple(np.zeros([n or 1 for n in spec.shape], spec.dtype) for spec in inputs)


def describe(names: Sequence[str], outputs: Sequence[Any]) -> Specs:
    """The specs of outputs as they came out for one sample."""
    arrays: list[Array] = [np.asarray(output) for output in outputs]
    return tuple(TensorSpec(n, tuple(a.shape), str(a.dtype)) for n, a in zip(names, arrays, strict=True))


def _check_arrays(source: str, inputs: Specs, arrays: Arrays) -> None:
    given = [(a.shape[1:], str(a.dtype)) for a in arrays]
    wanted = [(tuple(spec.shape[1:]), spec.dtype) for spec in inputs]
    if given != wanted:
        raise BugError(f"{source} was asked with {given}, its inputs are {wanted}")
