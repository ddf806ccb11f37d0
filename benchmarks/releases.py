"""What the delivery benchmark sends: pairs of releases as they happen, from small nets with seeds, and one tiny real bundle."""

from __future__ import annotations

import platform
import shutil
import site
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from edgepack import boards, digest
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.home import home
from edgepack.lock import RuntimeLock, Wheel
from edgepack.manifest import SCHEMA, LockRecord, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord
from edgepack.model import Signature, TensorSpec
from edgepack.profile import Budget, RuntimeRange
from edgepack.recipe import Convert
from edgepack.variant import Parity

Weights = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Pair:
    """change: how far the weights moved, the mean of |new - old| over the mean of |old|, where they can be compared"""

    name: str
    old: bytes
    new: bytes
    change: float | None


def train(
    net: torch.nn.Sequential, parameters: Iterator[torch.nn.Parameter], rate: float, epochs: int, seed: int
) -> None:
    torch.set_num_threads(1)  # several wait for each other at layers this small, for minutes on a busy machine
    torch.set_flush_denormal(
        True
    )  # what is learned by heart has gradients of almost nothing, which take a hundred times as long
    torch.manual_seed(seed)
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    optimizer = torch.optim.Adam(parameters, rate)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            loss = torch.nn.functional.cross_entropy(net(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def net_of(widths: tuple[int, ...], seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def weights_of(net: torch.nn.Sequential) -> Weights:
    layers = [layer for layer in net if isinstance(layer, torch.nn.Linear)]
    return [(layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()) for layer in layers]


def onnx_of(weights: Weights, int8: bool, version: str) -> bytes:
    """The net as an ONNX file. int8: each weight rounded, symmetric, one scale a channel."""
    nodes, constants, last = [], [], "x"
    for index, (weight, bias) in enumerate(weights):
        name = f"layer{index}.weight"
        if int8:
            scale = np.abs(weight).max(1) / 127
            rounded = np.clip(np.round(weight / scale[:, None]), -127, 127).astype(np.int8)
            constants += [
                numpy_helper.from_array(rounded, f"{name}_q"),
                numpy_helper.from_array(scale.astype(np.float32), f"{name}_s"),
            ]
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [name], axis=0))
        else:
            constants.append(numpy_helper.from_array(weight, name))
        constants.append(numpy_helper.from_array(bias, f"layer{index}.bias"))
        nodes.append(helper.make_node("Gemm", [last, name, f"layer{index}.bias"], [f"sum{index}"], transB=1))
        last = f"sum{index}"
        if index + 1 < len(weights):
            nodes.append(helper.make_node("Relu", [last], [f"act{index}"]))
            last = f"act{index}"
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 10])],
        constants,
        doc_string=f"release {version}",
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def change(old: Weights, new: Weights) -> float:
    moved = sum(float(np.abs(a - b).sum()) for (a, _), (b, _) in zip(old, new, strict=True))
    return moved / sum(float(np.abs(a).sum()) for a, _ in old)


def pairs() -> list[Pair]:
    """Unchanged, head retrained, all layers slightly retrained in float and in int8, another architecture: 3 MB and less."""
    net = net_of((64, 768, 768, 256, 10), 1)
    train(net, net.parameters(), 1e-3, 4, 2)
    first = weights_of(net)
    train(net, net[-1].parameters(), 1e-3, 2, 3)
    head = weights_of(net)
    for layer, (weight, bias) in zip((one for one in net if isinstance(one, torch.nn.Linear)), first, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight), torch.tensor(bias)
    train(net, net.parameters(), 1e-5, 2, 4)
    tuned = weights_of(net)
    other = net_of((64, 640, 896, 320, 10), 5)
    train(other, other.parameters(), 1e-3, 4, 6)
    old, old8 = onnx_of(first, False, "1.0.0"), onnx_of(first, True, "1.0.0")
    return [
        Pair("unchanged file", old, old, 0.0),
        Pair("head retrained", old, onnx_of(head, False, "1.1.0"), change(first, head)),
        Pair("all layers slightly retrained, float", old, onnx_of(tuned, False, "1.1.0"), change(first, tuned)),
        Pair("the same in int8", old8, onnx_of(tuned, True, "1.1.0"), change(first, tuned)),
        Pair("another architecture", old, onnx_of(weights_of(other), False, "2.0.0"), None),
    ]


def lend_runtime(folder: Path) -> RuntimeLock:
    """A lock whose one wheel is a path to this environment's onnxruntime: nothing has to be fetched to install a bundle."""
    name = "hostruntime-1.0-py3-none-any.whl"
    packages = next(path for path in site.getsitepackages() if Path(path, "onnxruntime").is_dir())
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("hostruntime.pth", packages + "\n")
        archive.writestr("hostruntime-1.0.dist-info/METADATA", "Name: hostruntime\nVersion: 1.0\n")
    data = (folder / name).read_bytes()
    kept = home() / "wheels/sha256" / digest.hex_of(digest.of_bytes(data)) / name
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / name, kept)
    libc, version = platform.libc_ver()
    return RuntimeLock(
        runtime="onnxruntime",
        version=onnxruntime.__version__,
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        machine=platform.machine(),
        libc=libc or "musl",
        needs_glibc=version,
        wheels=(Wheel("hostruntime", "1.0", name, digest.of_bytes(data), len(data)),),
    )


def bundle_of(model: bytes, lock: RuntimeLock, folder: Path) -> Bundle:
    """A release of one variant for a loopback board, its golden sample from the model itself."""
    x = (load_digits().data[:1] / 16).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(model).run(None, {"x": x})
    golden, packed, profile = write_golden((x,), (y,)), digest.canonical_json(lock), boards.default_profile("loopback")
    record = VariantRecord(
        id=f"digits.{profile}.fp32.onnx",
        format="onnx",
        runtime="onnxruntime",
        precision="fp32",
        sparsity=0.0,
        digest=digest.of_bytes(model),
        size=len(model),
        score=None,
        drop=None,
        parity=Parity(0.0, 0.0, 99.0),
        recipe=(Convert("onnx"),),
        golden=digest.of_bytes(golden),
        golden_size=len(golden),
        tolerance=(0.01,),
    )
    manifest = Manifest(
        schema=SCHEMA,
        name="digits",
        version="1.0.0",
        created="2026-01-02T03:04:05Z",
        profile=ProfileRecord(profile, digest.of_bytes(b"profile")),
        source=SourceRecord("onnx", digest.of_bytes(model), ()),
        signature=Signature((TensorSpec("x", (1, 64)),), (TensorSpec("y", (1, 10)),)),
        preprocessing=None,
        labels=(),
        metric="top1",
        baseline=None,
        variants=(record,),
        default=record.id,
        runtimes={"onnxruntime": RuntimeRange(">=1.19,<2")},
        locks=(LockRecord(digest.of_bytes(packed), len(packed), lock.runtime, lock.python, lock.machine),),
        gates=Budget(),
        provenance=Provenance(digest.of_bytes(b"plan"), None, None, None, ()),
    )
    return pack(manifest, {digest.of_bytes(data): data for data in (model, golden, packed)}, folder)
