"""A small bundle to build on: two variants of made-up bytes, real golden samples, one lock."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edgepack import digest
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.digest import Digest
from edgepack.lock import RuntimeLock, Wheel
from edgepack.manifest import (
    SCHEMA,
    LockRecord,
    Manifest,
    ProfileRecord,
    Provenance,
    SourceRecord,
    VariantRecord,
)
from edgepack.model import Preprocessing, Signature, TensorSpec
from edgepack.names import FileFormat
from edgepack.profile import Budget, RuntimeName, RuntimeRange
from edgepack.recipe import Convert, Prune, Quantize, Recover
from edgepack.variant import Parity


@dataclass(frozen=True)
class Ingredients:
    manifest: Manifest
    blobs: dict[Digest, Path | bytes]
    lock: RuntimeLock


def a_lock() -> RuntimeLock:
    wheel = Wheel("numpy", "2.1.0", "numpy-2.1.0-cp311-cp311-manylinux_2_17_aarch64.whl", digest.of_bytes(b"numpy"), 5)
    return RuntimeLock(
        runtime="litert",
        version="2.3.0",
        python="3.11",
        machine="aarch64",
        libc="glibc",
        needs_glibc="2.34",
        wheels=(wheel,),
    )


def a_variant(format: FileFormat, runtime: RuntimeName, model: bytes, golden: bytes) -> VariantRecord:
    return VariantRecord(
        id=f"digits.rpi4.w8a8-s50.{format}",
        format=format,
        runtime=runtime,
        precision="w8a8",
        sparsity=0.5,
        digest=digest.of_bytes(model),
        size=len(model),
        score=0.98,
        drop=0.004,
        parity=Parity(0.01, 0.001, 38.5),
        recipe=(Prune(0.5), Recover(), Convert(format), Quantize("w8a8")),
        golden=digest.of_bytes(golden),
        golden_size=len(golden),
        tolerance=(0.05,),
    )


def ingredients() -> Ingredients:
    golden = write_golden((np.arange(64, dtype=np.float32).reshape(1, 64),), (np.ones((1, 10), np.float32),))
    tflite, onnx = b"TFL3" + bytes(range(256)) * 40, b"ONNX" + bytes(range(255, -1, -1)) * 50
    lock = a_lock()
    packed = digest.canonical_json(lock)
    manifest = Manifest(
        schema=SCHEMA,
        name="digits",
        version="1.2.0",
        created="2026-01-02T03:04:05Z",
        profile=ProfileRecord("rpi4", digest.of_bytes(b"profile")),
        source=SourceRecord("torch", digest.of_bytes(b"source"), (("torch", "2.13.0"),)),
        signature=Signature((TensorSpec("x", (1, 64)),), (TensorSpec("y", (1, 10)),)),
        preprocessing=Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,), layout="NHWC->NCHW"),
        labels=("zero", "eins", "zwei"),
        metric="top1",
        baseline=0.984,
        variants=(a_variant("tflite", "litert", tflite, golden), a_variant("onnx", "onnxruntime", onnx, golden)),
        default="digits.rpi4.w8a8-s50.tflite",
        runtimes={"litert": RuntimeRange(">=2.1,<3"), "onnxruntime": RuntimeRange(">=1.19,<2")},
        locks=(LockRecord(digest.of_bytes(packed), len(packed), "litert", "3.11", "aarch64"),),
        gates=Budget(max_size_mb=16),
        provenance=Provenance(digest.of_bytes(b"plan"), None, None, None, (("edgepack", "0.1.0"),)),
    )
    return Ingredients(manifest, {digest.of_bytes(data): data for data in (tflite, onnx, golden, packed)}, lock)


@pytest.fixture
def parts() -> Ingredients:
    return ingredients()


@pytest.fixture
def bundle(parts: Ingredients, tmp_path: Path) -> Bundle:
    return pack(parts.manifest, parts.blobs, tmp_path / "out")


@pytest.fixture
def unpacked(bundle: Bundle, tmp_path: Path) -> Callable[[], Path]:
    """Unpacks the bundle as a folder."""

    def unpack() -> Path:
        folder = tmp_path / "unpacked"
        with tarfile.open(bundle.path) as tar:
            tar.extractall(folder, filter="data")
        return folder

    return unpack
