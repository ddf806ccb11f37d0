"""What is compared: one row a method, each with the configuration that the table states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from compressing.models import Model
from compressing.places import CACHE, CHECKOUT, HERE

Who = Literal["float", "raw", "onnxruntime", "ai-edge", "nncf", "olive", "edgepack"]
Format = Literal["onnx", "tflite"]
Kind = Literal["float", "static", "dynamic", "call"]
"""`static`, `dynamic`: int8, judged by the bars; `call`: what a whole build makes too, measured for its cost alone."""

MAX_DROP = 0.01
"""What accuracy control and mixed precision may lose on the validation samples."""
PYTHON = CHECKOUT / ".venv" / "bin" / "python"
NNCF, OLIVE = (CACHE / "envs" / name / "bin" / "python" for name in ("nncf", "olive"))


@dataclass(frozen=True)
class Method:
    """output: the file a cell leaves in its folder, empty where it is a bundle"""

    name: str
    who: Who
    format: Format
    kind: Kind
    output: str

    @property
    def starts_from(self) -> tuple[str, ...]:
        """The cells whose files this one reads."""
        if self.name.startswith("convert") or self.name in BUILDS:
            return ()
        return (f"convert {self.format}",)


@cache
def has_vnni() -> bool:
    return "vnni" in Path("/proc/cpuinfo").read_text()


def onnxruntime_activations() -> Literal["U8S8", "S8S8"]:
    """onnxruntime's advice: U8S8 is the faster on x86-64, but saturates where there is no VNNI."""
    return "U8S8" if has_vnni() else "S8S8"


FLOATS = (
    Method("convert onnx", "float", "onnx", "float", "float.onnx"),
    Method("convert tflite", "float", "tflite", "float", "float.tflite"),
)
PEERS = (
    Method("onnxruntime defaults", "onnxruntime", "onnx", "static", "static.onnx"),
    Method(f"onnxruntime per channel {onnxruntime_activations()}", "onnxruntime", "onnx", "static", "static.onnx"),
    Method("onnx w8d", "onnxruntime", "onnx", "dynamic", "w8d.onnx"),
    Method("tflite w8a8", "ai-edge", "tflite", "static", "w8a8.tflite"),
    Method("tflite w8d", "ai-edge", "tflite", "dynamic", "w8d.tflite"),
    Method("nncf default", "nncf", "onnx", "static", "nncf.onnx"),
    Method("nncf accuracy", "nncf", "onnx", "static", "nncf.onnx"),
    Method("olive", "olive", "onnx", "static", "olive.onnx"),
)
CALLS = (
    Method("onnx w8a8", "raw", "onnx", "call", "w8a8.onnx"),
    Method("onnx fp16", "raw", "onnx", "call", "fp16.onnx"),
    Method("tflite fp16", "raw", "tflite", "call", "fp16.tflite"),
)
EDGEPACK = (
    *(
        Method(f"edgepack {precision} {format}", "edgepack", format, "dynamic" if precision == "w8d" else "static", "")
        for format in ("onnx", "tflite")
        for precision in ("w8a8", "mixed", "w8d")
    ),
    Method("edgepack build", "edgepack", "onnx", "call", ""),
    Method("edgepack build --target", "edgepack", "onnx", "call", ""),
)
BUILDS = ("edgepack build", "edgepack build --target")
BUILD_CALLS = (
    "convert onnx",
    "convert tflite",
    "onnx w8a8",
    "onnx w8d",
    "onnx fp16",
    "tflite w8a8",
    "tflite w8d",
    "tflite fp16",
)
METHODS = {method.name: method for method in (*FLOATS, *PEERS, *CALLS, *EDGEPACK)}
TITLES = {
    "convert onnx": "float, ONNX",
    "convert tflite": "float, TFLite",
    "onnx w8d": "onnxruntime dynamic",
    "tflite w8a8": "ai-edge-quantizer static",
    "tflite w8d": "ai-edge-quantizer dynamic",
    "nncf default": "NNCF default",
    "nncf accuracy": "NNCF accuracy control",
    "olive": "Olive static",
}


CONFIGURATIONS = (
    "float: torch.onnx.export (dynamo) and litert-torch; Keras through tf2onnx and TensorFlow's converter",
    "onnxruntime defaults: quant_pre_process, then quantize_static as it comes: S8S8, per tensor, min-max",
    f"onnxruntime per channel: the same with per_channel, {onnxruntime_activations()} as its documentation advises for this CPU",
    "onnxruntime dynamic: quantize_dynamic, unsigned weights",
    "ai-edge-quantizer: recipe.static_wi8_ai8 with its own calibration, recipe.dynamic_wi8_afp32",
    "NNCF 3.4.0: nncf.quantize; preset mixed where activations are smooth, model type transformer for one",
    f"NNCF accuracy control: max_drop {MAX_DROP} on the validation samples; for EfficientNet-Lite0 of its agreement with float",
    "Olive 0.13.0: a workflow of OnnxStaticQuantization, per channel, activations as above, accuracy before and after",
    "edgepack PRECISION: `edgepack build` of the same float file, that precision alone; mixed with the same max_drop",
    "edgepack build: of the source, for a whole profile: both formats in w8a8, w8d, fp16 and fp32",
    "edgepack build --target: the same, every variant measured on a loopback board (this machine) before one is selected",
)


def title(name: str) -> str:
    return TITLES.get(name, name)


def command(method: Method, model: Model, folder: Path) -> list[str]:
    """The process that fills `folder`, which holds calibration.npz, validation.npz and what the method starts from."""

    def script(file: str, *arguments: str) -> list[str]:
        return [str(HERE / file), *arguments]

    start, samples = (
        str(folder / f"float.{method.format}"),
        (str(folder / "calibration.npz"), str(folder / "validation.npz")),
    )
    match method.who:
        case "nncf":
            how = method.name.removeprefix("nncf ")
            return script(
                "run_nncf.py", how, model.flavour, str(MAX_DROP), start, *samples, str(folder / method.output)
            )
        case "olive":
            activations = "uint8" if onnxruntime_activations() == "U8S8" else "static"
            return script("run_olive.py", activations, start, *samples, str(folder))
        case "edgepack":
            source = model.source() if method.name in BUILDS else start
            measured = ["--target", board(model), "--allow-unsigned"] if method.name.endswith("--target") else []
            profile = folder / "here.toml"
            profile.write_text(profile_text(method, model))
            build = [
                "-m",
                "edgepack",
                "build",
                *measured,
                source,
                "-p",
                str(profile),
                "-o",
                str(folder / "out"),
                "--json",
            ]
            return [
                *build,
                "--calibration",
                samples[0],
                "--evaluation",
                samples[1],
                "--metric",
                "top1",
                "--name",
                model.name,
            ]
        case _:
            return script("run_raw.py", method.name, model.name, str(folder))


def board(model: Model) -> str:
    """The loopback board that measures a model: this machine, measured as any other."""
    return f"here-{model.name.replace('_', '-')}"


def python(method: Method) -> Path:
    return {"nncf": NNCF, "olive": OLIVE}.get(method.who, PYTHON)


def profile_text(method: Method, model: Model) -> str:
    """This machine as a profile: its instruction set said, one format and precision or all that a profile has by default."""
    lines = ['schema = "edgepack.profile/1"', 'title = "this machine"', 'extends = "linux-x86_64"', "[device]"]
    lines.append('isa = ["sse4.2", "avx2", "avx512_vnni"]' if has_vnni() else 'isa = ["sse4.2"]')
    if method.name in BUILDS:
        return "\n".join([*lines, ""])
    _, precision, format = method.name.split()
    runtime = 'onnxruntime = ">=1.19,<2"' if format == "onnx" else 'litert = ">=2.1,<3"'
    drop = MAX_DROP if precision == "mixed" else 1.0
    return "\n".join(
        [
            *lines,
            "[runtimes]",
            runtime,
            "[compress]",
            f'precisions = ["{precision}"]',
            "[budget]",
            f"max_drop = {drop}",
            "",
        ]
    )
