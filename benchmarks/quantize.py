"""edgepack's quantization beside the raw library calls that it wraps: seconds, peak memory, size, SQNR, latency here.

    .venv/bin/python benchmarks/quantize.py [--json FILE]

Each call runs in a process of its own, imports included. Nets: a CNN on 28×28 and MobileNetV2 at 96×96, both with random
weights; inputs are Gaussian. SQNR compares methods, it does not promise accuracies.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

CALIBRATION, EVALUATION = 64, 64
PRECISIONS = {"tflite": ("w8a8", "w8d", "w8", "fp16"), "onnx": ("w8a8", "w8d", "fp16")}


@dataclass(frozen=True)
class Row:
    net: str
    format: str
    precision: str
    who: str
    seconds: float
    peak_mb: float
    kilobytes: int
    sqnr_db: float
    milliseconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    parser.add_argument("--call", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.call:
        call(*options.call)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = list(compare(Path(folder)))
    table(rows)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def compare(folder: Path) -> Iterator[Row]:
    for net, shape in write_nets(folder).items():
        rng = np.random.default_rng(0)
        np.save(folder / f"{net}.npy", rng.standard_normal((CALIBRATION, *shape)).astype(np.float32))
        probe = rng.standard_normal((EVALUATION, *shape)).astype(np.float32)
        for format, precisions in PRECISIONS.items():
            source = folder / f"{net}.{format}"
            expected, _ = ask(source, format, probe)
            for precision in precisions:
                for who in ("raw", "edgepack"):
                    out = folder / f"{net}.{precision}.{who}.{format}"
                    seconds, peak = in_own_process(who, format, precision, source, folder / f"{net}.npy", out)
                    actual, latency = ask(out, format, probe)
                    error = float(((expected - actual) ** 2).sum())
                    sqnr = 10 * np.log10(float((expected**2).sum()) / max(error, 1e-30))
                    yield Row(net, format, precision, who, seconds, peak, out.stat().st_size // 1024, sqnr, latency)


def in_own_process(
    who: str, format: str, precision: str, source: Path, samples: Path, out: Path
) -> tuple[float, float]:
    """(seconds of wall, peak of resident memory in MB) of one call in a fresh process."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--call", who, format, precision, str(source), str(samples), str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return time.perf_counter() - start, float(done.stdout.splitlines()[-1])


def call(who: str, format: str, precision: str, source: str, samples: str, out: str) -> None:
    data = np.load(samples)
    if who == "edgepack":
        edgepack_call(format, precision, Path(source), data, Path(out))
    elif format == "tflite":
        raw_tflite(precision, source, data, out)
    else:
        raw_onnx(precision, source, data, out)
    print(peak_mb())


def peak_mb() -> float:
    """Of this process alone: getrusage's figure survives an exec and would show the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


class Silent:
    def step(self, title: str) -> AbstractContextManager[None]:
        return nullcontext()

    def track(self, items: Any, title: str, total: int | None = None) -> Any:
        return iter(items)

    def note(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


def edgepack_call(format: Any, precision: Any, source: Path, data: Any, out: Path) -> None:
    from edgepack import compress, digest
    from edgepack.samples import Samples

    samples = Samples((data,), None, digest.of_bytes(data.tobytes()))
    compress.quantize(source, format, precision, samples, out, Silent())


def raw_tflite(precision: str, source: str, data: Any, out: str) -> None:
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    if precision == "fp16":
        manager = recipe_manager.RecipeManager()
        manager.add_weight_only_config(".*", "*", num_bits=16, algorithm_key="float_casting")
        how = manager.get_quantization_recipe()
    else:
        how = {
            "w8a8": recipe.static_wi8_ai8, "w8d": recipe.dynamic_wi8_afp32, "w8": recipe.weight_only_wi8_afp32
        }[precision]()  # fmt: skip
    tool = quantizer.Quantizer(source, how)
    ranges = (
        tool.calibrate({"serving_default": [{"args_0": row[None]} for row in data]}) if precision == "w8a8" else None
    )
    tool.quantize(ranges).export_model(out, overwrite=True)


def raw_onnx(precision: str, source: str, data: Any, out: str) -> None:
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16

        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), out)
        return
    name = onnxruntime.InferenceSession(source).get_inputs()[0].name
    rows = iter([{name: row[None]} for row in data])

    class Reader(CalibrationDataReader):
        def get_next(self) -> Any:
            return next(rows, None)

    prepared = f"{out}.prepared"
    quant_pre_process(source, prepared)
    if precision == "w8a8":
        quantize_static(prepared, out, Reader(), per_channel=True, activation_type=QuantType.QInt8)
    else:
        quantize_dynamic(prepared, out)


def ask(path: Path, format: Any, probe: Any) -> tuple[Any, float]:
    """(the answers to every probe, median milliseconds of one on one thread)."""
    from edgepack import runtimes

    run, answers, taken = runtimes.open_file(path, format), [], []
    for row in probe:
        start = time.perf_counter()
        answers.append(run((row[None],))[0])
        taken.append(time.perf_counter() - start)
    return np.concatenate(answers), statistics.median(taken) * 1e3


def write_nets(folder: Path) -> dict[str, tuple[int, ...]]:
    import litert_torch
    import torch

    shapes = {"cnn": (1, 28, 28), "mobilenetv2": (3, 96, 96)}
    from edgepack.quiet import quiet

    torch.manual_seed(0)
    for name, net in {"cnn": initialize(cnn()), "mobilenetv2": initialize(mobilenet_v2())}.items():
        example = (torch.zeros(1, *shapes[name]),)
        target = str(folder / f"{name}.onnx")
        with quiet():
            torch.onnx.export(net, example, target, dynamo=True, opset_version=18, external_data=False, verbose=False)
            litert_torch.convert(net, example).export(str(folder / f"{name}.tflite"))
    return shapes


def initialize(net: Any) -> Any:
    """As torchvision initializes MobileNetV2: convolutions that keep the signal's size, else it dies out on its way."""
    from torch import nn

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return net.eval()


def cnn() -> Any:
    from torch import nn

    def block(inputs: int, outputs: int) -> list[Any]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*block(1, 16), *block(16, 32), *block(32, 64), nn.Flatten(), nn.Linear(576, 10, bias=False))


def mobilenet_v2() -> Any:
    """Sandler et al. 2018, table 2."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, widen: int) -> None:
            super().__init__()
            hidden, self.adds = inputs * widen, stride == 1 and inputs == outputs
            first = [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()] if widen > 1 else []
            self.layers = nn.Sequential(
                *first, nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
                nn.ReLU6(), nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs),
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return x + self.layers(x) if self.adds else self.layers(x)

    layers, inputs = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()], 32
    for widen, outputs, count, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for place in range(count):
            layers.append(Block(inputs, outputs, stride if place == 0 else 1, widen))
            inputs = outputs
    layers += [nn.Conv2d(inputs, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000, bias=False))


def table(rows: list[Row]) -> None:
    print(f"{'net':12} {'format':7} {'precision':9} {'who':9} {'s':>6} {'MB':>6} {'KB':>6} {'dB':>6} {'ms here':>8}")
    for row in rows:
        print(
            f"{row.net:12} {row.format:7} {row.precision:9} {row.who:9} {row.seconds:6.2f} {row.peak_mb:6.0f} "
            f"{row.kilobytes:6} {row.sqnr_db:6.1f} {row.milliseconds:8.2f}"
        )
    pairs = list(zip(rows[::2], rows[1::2], strict=True))
    times = [ours.seconds / raw.seconds for raw, ours in pairs]
    memory = [ours.peak_mb / raw.peak_mb for raw, ours in pairs]
    print(f"edgepack / raw: time {statistics.median(times):.2f} (at most {max(times):.2f}), ", end="")
    print(f"memory {statistics.median(memory):.2f} (at most {max(memory):.2f})")


if __name__ == "__main__":
    main()
