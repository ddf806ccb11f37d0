"""From a source to the two formats that boards run: one file a route, and the table of them.

A conversion that succeeds may still be wrong: whoever calls this compares the file with its source before it counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import assert_never

from edgepack import files
from edgepack.errors import InexpressibleError
from edgepack.model import Format, Signature
from edgepack.names import FileFormat
from edgepack.ports import KerasNative, Loaded, OnnxNative, Progress, TfliteNative, TorchNative
from edgepack.runtimes import foreign
from edgepack.samples import Arrays, Samples

ROUTES: dict[tuple[Format, FileFormat], str] = {
    (Format.TORCH, "onnx"): "torch.onnx",
    (Format.TORCH, "tflite"): "litert-torch",
    (Format.KERAS, "onnx"): "tf2onnx",
    (Format.KERAS, "tflite"): "TFLiteConverter",
    (Format.ONNX, "onnx"): "as it is",
    (Format.ONNX, "tflite"): "torch.fx, litert-torch",
    (Format.TFLITE, "onnx"): "tf2onnx",
    (Format.TFLITE, "tflite"): "as it is",
}


def route(source: Format, to: FileFormat) -> str | None:
    """What converts `source` to `to`, in words for a plan; None where nothing does."""
    return ROUTES.get((source, to))


def convert(loaded: Loaded, to: FileFormat, out: Path, samples: Samples, progress: Progress) -> None:
    """Write `loaded` as a float model to `out`, whole or not at all; the same inputs give the same bytes.

    samples: real ones, the first is what a converter traces with. Raises InexpressibleError naming the operator or the
    reason when the format cannot hold the model, UsageError where the route's extra is not installed.
    """
    via = route(loaded.model.format, to)
    if via is None:
        raise InexpressibleError(f"{loaded.model.source}: there is no route from {loaded.model.format} to {to}")
    traced = samples.take(1).inputs
    what = f"{loaded.model.source} cannot be converted to {to} ({via})"
    with (
        progress.step(f"convert to {to} ({via})"),
        files.aside(out) as fresh,
        foreign.converting(what, advice="build for another format, or replace the operator"),
    ):
        _convert(loaded, to, fresh, traced)


def _convert(loaded: Loaded, to: FileFormat, out: Path, samples: Arrays) -> None:
    native, signature = loaded.native, loaded.model.signature
    match native:
        case TorchNative():
            _torch(native, signature, to, out, samples)
        case KerasNative():
            _keras(native, signature, to, out, samples)
        case OnnxNative():
            _onnx(native, signature, to, out, samples)
        case TfliteNative():
            _tflite(native, signature, to, out, samples)
        case _:
            assert_never(native)


def _torch(native: TorchNative, signature: Signature, to: FileFormat, out: Path, samples: Arrays) -> None:
    from edgepack.convert import torch_to_onnx, torch_to_tflite

    match to:
        case "onnx":
            torch_to_onnx.convert(native, signature, out, samples)
        case "tflite":
            torch_to_tflite.convert(native, signature, out, samples)
        case _:
            assert_never(to)


def _keras(native: KerasNative, signature: Signature, to: FileFormat, out: Path, samples: Arrays) -> None:
    from edgepack.convert import keras_to_onnx, keras_to_tflite

    match to:
        case "onnx":
            keras_to_onnx.convert(native, signature, out, samples)
        case "tflite":
            keras_to_tflite.convert(native, signature, out, samples)
        case _:
            assert_never(to)


def _onnx(native: OnnxNative, signature: Signature, to: FileFormat, out: Path, samples: Arrays) -> None:
    from edgepack.convert import onnx_to_onnx, onnx_to_tflite, tflite_files

    match to:
        case "onnx":
            onnx_to_onnx.convert(native, signature, out, samples)
        case "tflite":
            onnx_to_tflite.convert(native.path, signature, out, samples)
            out.write_bytes(tflite_files.canonical(out.read_bytes(), signature))
        case _:
            assert_never(to)


def _tflite(native: TfliteNative, signature: Signature, to: FileFormat, out: Path, samples: Arrays) -> None:
    from edgepack.convert import tflite_to_onnx, tflite_to_tflite

    match to:
        case "onnx":
            tflite_to_onnx.convert(native, signature, out, samples)
        case "tflite":
            tflite_to_tflite.convert(native, signature, out, samples)
        case _:
            assert_never(to)
