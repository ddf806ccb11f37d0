"""Published latencies as rows that the estimator is fitted to. The tables are read where they lie; only coefficients are kept."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from edgepack.estimate.fitting import Row
from edgepack.estimate.law import Arithmetic, Core
from edgepack.work import Work

NETWORKS = Path(__file__).parent / "networks.csv"
SOURCE = (
    "ncnn benchmark/README.md (github.com/Tencent/ncnn, BSD-3-Clause); TensorFlow Lite hosted models "
    "(github.com/tensorflow/tensorflow, Apache-2.0): coefficients fitted to their latencies, no figure of theirs"
)
FILES = ("ncnn_raspberrypi_3_4.csv", "tflite_hosted_models_pixel3.csv")
DEVICES = {
    "Raspberry Pi 3": Core(1.4, 1.0),  # Cortex-A53
    "Raspberry Pi 4": Core(1.8, 1.5),  # Cortex-A72
    "Pixel 3": Core(2.5, 2.0),  # Kryo 385 Gold: Cortex-A75
}
_SAME = {"mobilenet": "mobilenet_v1_1.0_224", "mobilenet_v2_1.0_224": "mobilenet_v2", "inception_v1": "googlenet"}
_SAME_IN_TFLITE = {"squeezenet": "squeezenet_v1.0", "mnasnet_1.0_224": "mnasnet"}


def networks() -> dict[str, Work]:
    """Counted on the definitions in torchvision 0.28, MobileNet v1 on its paper's; what neither defines is left out."""
    with NETWORKS.open() as file:
        return {
            row["network"]: Work(
                **{kind: int(row[kind]) for kind in ("dense", "pointwise", "depthwise", "matrix", "parameters")}
            )
            for row in csv.DictReader(file)
        }


def read(folder: Path) -> list[Row]:
    """Every latency of both tables that was measured on a CPU and whose network is known."""
    known = networks()
    rows = []
    for name in FILES:
        with (folder / name).open() as file:
            for published in csv.DictReader(file):
                network = _network(published["model"], name)
                if published["backend"] != "cpu" or network not in known:
                    continue
                device = next(title for title in DEVICES if title in published["device"])
                arithmetic: Arithmetic = "int8" if "int8" in published["precision"] else "float"
                rows.append(
                    Row(
                        device=device,
                        core=DEVICES[device],
                        threads=int(published["threads"]),
                        arithmetic=arithmetic,
                        network=network,
                        family="_".join(network.split("_")[: 2 if network.startswith("mobilenet") else 1]),
                        work=known[network],
                        ms=float(published["latency_ms"]),
                    )
                )
    return rows


def _network(model: str, file: str) -> str:
    bare = model.removesuffix("_int8")
    if file.startswith("tflite"):
        bare = _SAME_IN_TFLITE.get(bare, bare)
    return _SAME.get(bare, bare)


@dataclass(frozen=True)
class Held:
    """A published latency of a device or runtime that no table above has: nothing was fitted to it."""

    what: str
    network: str
    core: Core
    threads: int
    arithmetic: Arithmetic
    ms: float


_PI5_HALF = Core(2.4, 6.0)  # ncnn computes in half precision there: twice the lanes
_PI4 = DEVICES["Raspberry Pi 4"]
HELD = (
    Held("Raspberry Pi 5, ncnn in half precision, MobileNetV2, 4 threads", "mobilenet_v2", _PI5_HALF, 4, "float", 10.5),
    Held("Raspberry Pi 5, ncnn in half precision, MobileNetV3, 4 threads", "mobilenet_v3", _PI5_HALF, 4, "float", 7.35),
    Held("Raspberry Pi 5, ncnn in half precision, ResNet18, 4 threads", "resnet18", _PI5_HALF, 4, "float", 20.0),
    Held("Raspberry Pi 5, ncnn in half precision, ResNet50, 4 threads", "resnet50", _PI5_HALF, 4, "float", 46.0),
    Held("Raspberry Pi 4, XNNPACK, MobileNetV2, 4 threads", "mobilenet_v2", _PI4, 4, "float", 46.0),
    Held("Raspberry Pi 4, XNNPACK, MobileNetV2 in int8, 4 threads", "mobilenet_v2", _PI4, 4, "int8", 17.0),
)
"""ncnn's own README for the Raspberry Pi 5; XNNPACK's README for the Raspberry Pi 4."""
