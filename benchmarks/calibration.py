"""Peak memory and CPU time of calibrating with many samples: one pass of edgepack beside onnxruntime's own calibrators.

    .venv/bin/python benchmarks/calibration.py [--samples 512] [--peer-samples 64] [--json FILE]

MobileNetV2 at 224×224 with random weights, Gaussian inputs. Each call runs in a process of its own, imports and the samples
themselves included. onnxruntime's histogram calibrator keeps what it sees, so that it is given fewer samples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from quantize import initialize, mobilenet_v2, peak_mb

SIDE = 224


@dataclass(frozen=True)
class Row:
    """cpu_s: of the calibration alone; samples_mb: of the peak, what the samples themselves take"""

    who: str
    samples: int
    cpu_s: float
    peak_mb: float
    samples_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--peer-samples", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("--call", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        who, model, count = options.call
        print(json.dumps(call(who, model, int(count))))
        return
    with tempfile.TemporaryDirectory() as folder:
        model = write_net(Path(folder))
        wanted = [("edgepack", options.samples), ("edgepack", options.peer_samples)]
        wanted += [(who, options.peer_samples) for who in ("MinMax", "Percentile")]
        rows = [measured(who, model, count) for who, count in wanted]
    print(f"{'who':22} {'samples':>7} {'CPU s':>7} {'peak MB':>8} {'of which samples':>17}")
    for row in rows:
        title = row.who if row.who == "edgepack" else f"onnxruntime {row.who}"
        print(f"{title:22} {row.samples:7} {row.cpu_s:7.1f} {row.peak_mb:8.0f} {row.samples_mb:17.0f}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def write_net(folder: Path) -> Path:
    import torch

    from edgepack.quiet import quiet

    torch.manual_seed(0)
    path = folder / "mobilenetv2.onnx"
    with quiet():
        example = (torch.zeros(1, 3, SIDE, SIDE),)
        torch.onnx.export(
            initialize(mobilenet_v2()), example, str(path), dynamo=True, opset_version=18, external_data=False
        )
    return path


def measured(who: str, model: Path, count: int) -> Row:
    command = [sys.executable, __file__, "--call", who, str(model), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    cpu_s, peak = json.loads(done.stdout.splitlines()[-1])
    return Row(who, count, cpu_s, peak, count * 3 * SIDE * SIDE * 4 / 2**20)


def call(who: str, model: str, count: int) -> tuple[float, float]:
    """(CPU seconds, peak of resident memory in MB)"""
    data = np.random.default_rng(0).standard_normal((count, 3, SIDE, SIDE), dtype=np.float32)
    start = time.process_time()
    if who == "edgepack":
        one_pass(model, data)
    else:
        theirs(who, model, data)
    return time.process_time() - start, peak_mb()


def one_pass(model: str, data: Any) -> None:
    import onnx

    from edgepack.compress.calibration import calibrate
    from edgepack.compress.onnx_watch import watch
    from edgepack.digest import Digest
    from edgepack.samples import Samples

    loaded = onnx.load(model)
    samples = Samples((data,), None, Digest("sha256:noise"))
    done = calibrate(watch(loaded, (loaded.graph.input[0].name,)), samples)
    for method in ("minmax", "mse", "percentile", "entropy"):
        done.ranges(method, 256)


def theirs(who: str, model: str, data: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(rows, None)

    rows: Any = iter(())
    with tempfile.TemporaryDirectory() as folder:
        tool = create_calibrator(
            model,
            augmented_model_path=f"{folder}/augmented.onnx",
            calibrate_method=getattr(CalibrationMethod, who),
        )
        name = tool.infer_session.get_inputs()[0].name
        rows = iter([{name: row[None]} for row in data])
        tool.collect_data(Reader())
        tool.compute_data()


if __name__ == "__main__":
    main()
