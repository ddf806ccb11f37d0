"""What integers for the weights alone cost: `w8` and `w4` as they round, and rounded to what layers answer.

    .venv/bin/python benchmarks/weights.py FLOAT.onnx|FLOAT.tflite CALIBRATION.npz EVALUATION.npz [--samples 400]

The arrays are those that `benchmarks/compression` keeps in .cache/benchmarks/data, and the float files of its cells. For TFLite
the rows "library" are what ai-edge-quantizer's weight-only recipes give; onnxruntime has none for convolutions.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from quantize import Silent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("calibration", type=Path)
    parser.add_argument("evaluation", type=Path)
    parser.add_argument("--samples", type=int, default=400, help="of the evaluation set")
    options = parser.parse_args()
    probe = np.load(options.evaluation)["x"][: options.samples]
    expected = answers(options.source, probe)
    print(f"{'precision':10}{'how':22}{'KB':>9}{'size':>7}{'dB':>7}{'agree %':>9}{'s':>7}")
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("w8", "w4"):
            for how in ("library", "as they round", "rounded to answers"):
                out = Path(folder) / f"{precision}{options.source.suffix}"
                start = time.perf_counter()
                if how == "library" and not by_library(options.source, precision, out):
                    continue
                if how != "library":
                    by_edgepack(options.source, precision, how, np.load(options.calibration)["x"], out)
                seconds = time.perf_counter() - start
                row(precision, how, options.source, out, expected, answers(out, probe), seconds)


def row(precision: str, how: str, source: Path, out: Path, expected: Any, actual: Any, seconds: float) -> None:
    noise = float(((expected - actual) ** 2).sum())
    sqnr = 10 * np.log10(float((expected**2).sum()) / max(noise, 1e-30))
    agree = 100 * (expected.argmax(1) == actual.argmax(1)).mean()
    size = out.stat().st_size
    share = size / source.stat().st_size
    print(f"{precision:10}{how:22}{size / 1000:9.1f}{share:7.3f}{sqnr:7.1f}{agree:9.1f}{seconds:7.1f}", flush=True)


def by_library(source: Path, precision: str, out: Path) -> bool:
    """Whether the format's library has such a precision."""
    if source.suffix != ".tflite":
        return False
    from ai_edge_quantizer import quantizer, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.add_weight_only_config(".*", "*", num_bits=int(precision[1]))
    tool = quantizer.Quantizer(str(source), manager.get_quantization_recipe())
    tool.quantize().export_model(str(out), overwrite=True)
    return True


def by_edgepack(source: Path, precision: Any, how: str, samples: Any, out: Path) -> None:
    from edgepack import compress, digest
    from edgepack.recipe import Quantize
    from edgepack.samples import Samples

    calibration = Samples((samples,), None, digest.of_bytes(samples.tobytes()))
    step = Quantize(precision=precision, correct="off" if how == "as they round" else "auto")
    compress.quantize(source, source.suffix[1:], step, calibration, out, Silent())  # type: ignore[arg-type]


def answers(path: Path, probe: Any) -> Any:
    from edgepack import digest, runtimes
    from edgepack.samples import Samples, over

    return over(runtimes.open_file(path, path.suffix[1:]), Samples((probe,), None, digest.of_bytes(b"")))[0]  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
