"""Quantize a float model file: one question to the right library, and a look at what came out before it counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import assert_never

import numpy as np

from edgepack import files, runtimes
from edgepack.compress import onnx, tflite
from edgepack.compress.calibration import Passes
from edgepack.compress.mixed import search
from edgepack.compress.onnx_static import OnnxStatic
from edgepack.compress.operators import Quantized, short
from edgepack.compress.ranges import clipped
from edgepack.compress.static import FIT, LEAST_GAIN_DB, Candidate, Static, best
from edgepack.compress.tflite_static import TfliteStatic
from edgepack.compress.trial import split, trial
from edgepack.errors import InexpressibleError, InputError
from edgepack.model import TensorSpec
from edgepack.names import FileFormat, Precision
from edgepack.ports import Progress
from edgepack.recipe import STATIC, WEIGHTS, Activations, Quantize
from edgepack.samples import Samples
from edgepack.variant import LayerReport


def quantize(
    source: Path,
    format: FileFormat,
    how: Precision | Quantize,
    calibration: Samples | None,
    out: Path,
    progress: Progress,
    *,
    activations: Activations = "int8",
    passes: Passes | None = None,
) -> Quantized:
    """Write the float file `source` in a precision to `out`, which is whole or not there.

    how: the precision alone, or with its options
    calibration: samples in the order and dtype of the file's inputs; needed by w8a8, w8a16 and mixed;
    w8 and w4 round their weights by them
    activations: how 8-bit activations are stored in ONNX, where `how` is a precision alone
    passes: calibrations of this build, so that precisions of one float file share theirs
    The same inputs give the same bytes. Raises InexpressibleError for a precision that the format's library does not serve, a
    file that is quantized already, a model in which nothing could be quantized, or whose answer is lost at that precision;
    InputError for missing or unfitting calibration samples.
    """
    wanted = how if isinstance(how, Quantize) else Quantize(precision=how, activations=activations)
    precision = wanted.precision
    served = tflite.SERVED if format == "tflite" else onnx.SERVED
    if precision not in served:
        raise InexpressibleError(
            f"{source.name}: {precision} is not served for {format}", expected=f"one of {', '.join(served)}"
        )
    with progress.step(f"quantize {source.name} to {precision}"), files.aside(out) as fresh:
        if precision in STATIC:
            done = _write_static(source, format, wanted, calibration, fresh, passes or Passes())
        else:
            done = (tflite.write if format == "tflite" else onnx.write)(source, precision, fresh)
            _require_some(done, source.name)
            if precision in WEIGHTS and calibration is not None and wanted.correct != "off":
                done = _with_rounded_weights(source, format, wanted, calibration, fresh, done)
    return done


def _with_rounded_weights(
    source: Path, format: FileFormat, wanted: Quantize, calibration: Samples, plain: Path, done: Quantized
) -> Quantized:
    """Replace the plain file by one whose weights are rounded to what layers answer, where that answers better."""
    opened = runtimes.open_session(source, format)
    samples = _fitting(calibration, opened.inputs, source.name, wanted.precision)
    fit, held_out, meaningful = split(samples, FIT)
    if format == "tflite" and (kind := tflite.control_flow(source)):
        return replace(done, choices=(f"weights as they round (a {kind} cannot be walked through)",))
    if not meaningful and wanted.correct != "on":
        return done
    asked = trial(opened.run, held_out, plain.with_name(f"trial.{format}"), format, meaningful)
    other = plain.with_name(f"rounded.{format}")
    if format == "tflite":
        better = tflite.write_rounded(source, wanted.precision, other, fit)
    else:
        better = onnx.write_rounded(source, wanted.precision, other, [spec.name for spec in opened.inputs], fit)
    gain = asked.of(other.read_bytes()).sqnr_db - asked.of(plain.read_bytes()).sqnr_db
    if wanted.correct == "on" or gain >= LEAST_GAIN_DB:
        other.replace(plain)
        return replace(better, choices=(f"weights rounded and biases corrected ({gain:+.1f} dB)",))
    return replace(done, choices=(f"weights as they round (correction: {gain:+.1f} dB)",))


def _write_static(
    source: Path, format: FileFormat, wanted: Quantize, calibration: Samples | None, out: Path, passes: Passes
) -> Quantized:
    opened = runtimes.open_session(source, format)
    samples = _fitting(calibration, opened.inputs, source.name, wanted.precision)
    static = _open_static(source, format, wanted, samples, opened, out.parent, passes)
    fit, held_out, meaningful = split(samples, FIT)
    asked = trial(opened.run, held_out, out.with_name(f"trial.{format}"), format, meaningful)
    chosen, notes = best(static, asked, fit, wanted)
    data, done = static.finish(chosen.data)
    _require_some(done, source.name)
    if wanted.precision == "mixed":
        chosen, found = search(static, asked, fit, wanted, chosen, source.name)
        data, done = static.finish(chosen.data)
        _require_some(done, source.name)
        notes += found
    if chosen.quality.lost:
        raise InexpressibleError(
            f"{source.name}: {wanted.precision} {chosen.quality.lost}",
            expected="answers that follow the float model's",
            advice="use w8d or fp16 for this model",
        )
    out.write_bytes(data)
    if rest := static.rest(chosen.data):
        notes += (f"weights of {len(rest)} operators in float are stored as {chosen.plan.rest}",)
    return replace(done, choices=notes, layers=_reports(static, chosen))


def _open_static(
    source: Path,
    format: FileFormat,
    wanted: Quantize,
    samples: Samples,
    opened: runtimes.Opened,
    scratch: Path,
    passes: Passes,
) -> Static:
    match format:
        case "tflite":
            return TfliteStatic(source, wanted.precision, samples, passes)
        case "onnx":
            names = tuple(spec.name for spec in opened.inputs)
            stored = "int16" if wanted.precision == "w8a16" else wanted.activations
            return OnnxStatic(source, wanted.precision, samples, names, stored, scratch, passes)
        case _:
            assert_never(format)


def _reports(static: Static, chosen: Candidate) -> tuple[LayerReport, ...]:
    """What the walk saw of each layer, with the range of its output and what that cuts off."""
    ranges = static.ranges(chosen.plan.method)
    reports = []
    for layer in chosen.layers:
        name = static.output_of(layer.layer.name)
        range, seen = ranges.get(name), static.calibration.histograms.get(name)
        reports.append(
            LayerReport(
                layer.layer.kind,
                short(layer.layer.name),
                sqnr_db=round(layer.sqnr_db, 2),
                cosine=round(layer.cosine, 6),
                low=range.low if range else 0.0,
                high=range.high if range else 0.0,
                clipped=round(clipped(seen, range), 6) if seen and range else 0.0,
                shift=round(layer.shift, 6),
            )
        )
    return tuple(reports)


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
