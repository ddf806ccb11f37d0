"""Quantize a float model file: one question to the right library, and a look at what came out before it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, assert_never

import numpy as np

from edgepack import files, runtimes
from edgepack.compress import onnx, tflite
from edgepack.compress.operators import Quantized
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import TensorSpec
from edgepack.names import FileFormat, Precision
from edgepack.ports import Progress
from edgepack.samples import Array, Arrays, Samples, over

Activations = Literal["int8", "uint8"]

_LOOKED_AT = 8
"""Samples that are asked of the float and the quantized file before it counts."""


def activations_for(machine: str, isa: tuple[str, ...]) -> Activations:
    """How onnxruntime's activations are best stored for a device (a file for ARM boards and one for x86 need not be the same).

    int8 everywhere but on x86 with VNNI: ARM's kernels for signed activations and weights are the faster ones, on x86
    uint8's are (2.7 times on ResNet-20), but without VNNI those saturate and answer wrongly.
    """
    return "uint8" if machine == "x86_64" and any("vnni" in extension for extension in isa) else "int8"


def quantize(
    source: Path,
    format: FileFormat,
    precision: Precision,
    calibration: Samples | None,
    out: Path,
    progress: Progress,
    *,
    activations: Activations = "int8",
) -> Quantized:
    """Write the float file `source` in `precision` to `out`, which is whole or not there.

    calibration: samples in the order and dtype of the file's inputs; needed by w8a8 and w8a16, for the others unused
    activations: how `w8a8` in ONNX stores activations
    The same inputs give the same bytes. Raises InexpressibleError for a precision that the format's library does not serve, a
    file that is quantized already, a model in which nothing could be quantized, or whose answer is lost at that precision;
    InputError for missing or unfitting calibration samples.
    """
    served = tflite.SERVED if format == "tflite" else onnx.SERVED
    if precision not in served:
        raise InexpressibleError(
            f"{source.name}: {precision} is not served for {format}", expected=f"one of {', '.join(served)}"
        )
    opened = None
    if precision in tflite.STATIC:
        opened = runtimes.open_session(source, format)
        calibration = _fitting(calibration, opened.inputs, source.name, precision)
    names = tuple(spec.name for spec in opened.inputs) if opened else ()
    with progress.step(f"quantize {source.name} to {precision}"), files.aside(out) as fresh:
        match format:
            case "tflite":
                done = tflite.write(source, precision, calibration, names, fresh)
            case "onnx":
                done = onnx.write(source, precision, calibration, names, fresh, activations)
            case _:
                assert_never(format)
        _require_some(done, source.name)
        if opened is not None and calibration is not None:
            probe = calibration.take(_LOOKED_AT)
            actual = _asked(fresh, format, probe, source.name, precision)
            _require_answers(over(opened.run, probe), actual, source.name, precision)
    return done


def _fitting(calibration: Samples | None, inputs: tuple[TensorSpec, ...], file: str, precision: Precision) -> Samples:
    """The calibration samples. Raises InputError when there are none, or they do not fit the file's inputs."""
    if calibration is None or len(calibration) == 0:
        raise InputError(
            f"{file}: {precision} needs calibration samples, there are none",
            expected="some dozens of typical inputs, from which the range of every tensor is taken",
            advice="name them with --calibration, or drop the precision from the profile",
        )
    if len(calibration.inputs) != len(inputs):
        raise InputError(
            f"{file}: {len(calibration.inputs)} calibration arrays", expected=f"{len(inputs)}, one an input"
        )
    for array, spec in zip(calibration.inputs, inputs, strict=True):
        fits = array.ndim == len(spec.shape) and all(
            size in (None, given) for size, given in zip(spec.shape[1:], array.shape[1:], strict=True)
        )
        if not fits or str(array.dtype) != spec.dtype:
            given = f"{array.dtype}{list(array.shape)}"
            raise InputError(f"{file}: the calibration samples of input {spec.name} are {given}", expected=str(spec))
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{file}: the calibration samples of input {spec.name} hold NaN or infinity")
    return calibration


def _require_some(done: Quantized, file: str) -> None:
    if not done.quantized:
        raise InexpressibleError(
            f"{file}: nothing could be quantized to {done.precision}",
            expected="at least one operator with weights that the library quantizes",
            advice="use the float file",
        )


def _asked(path: Path, format: FileFormat, probe: Samples, file: str, precision: Precision) -> Arrays:
    try:
        return over(runtimes.open_file(path, format), probe)
    except (
        InputError
    ) as error:  # the runtime refuses what the library wrote: not the user's file, but what was made of it
        raise InexpressibleError(
            f"{file}: its {precision} form does not run: {error.what}", advice="use another precision for this model"
        ) from error


def _require_answers(expected: Arrays, actual: Arrays, file: str, precision: Precision) -> None:
    """Raises InexpressibleError when an output is lost: not finite, one constant, or nearer to nothing than to the float's."""
    for place, (wanted, given) in enumerate(zip(expected, actual, strict=True)):
        if wanted.dtype.kind == "f" and (reason := lost(wanted, given)):
            raise InexpressibleError(
                f"{file}: {precision} loses output {place}: {reason}",
                expected="answers that follow the float model's",
                advice="use w8d or fp16 for this model",
            )


def lost(expected: Array, actual: Array) -> str:
    """Why `actual` says nothing about `expected`, in words; empty when it does."""
    if not np.isfinite(actual).all():
        return "it holds NaN or infinity"
    signal = expected.astype(np.float64) - expected.mean(dtype=np.float64)
    if np.ptp(actual) == 0 and np.ptp(expected) > 0:
        return f"every value is {float(actual.flat[0]):g}"
    error = actual.astype(np.float64) - expected
    if float((error**2).sum()) > float((signal**2).sum()) > 0:
        return "its error is larger than its signal"
    return ""
