"""A build as the digits demo gives it, and reports of boards of every kind."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from edgepack import digest, stats
from edgepack.manifest import SCHEMA, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord
from edgepack.model import Signature, TensorSpec
from edgepack.names import FileFormat, Precision, VariantId, variant_id
from edgepack.profile import Budget, RuntimeRange
from edgepack.recipe import Convert
from edgepack.report import BenchProtocol, BundleRef, Conditions, ProcessRun, Report, RunContext, RuntimeRef
from edgepack.target import BoardKind
from edgepack.variant import Built, Failed, Judged, Parity, Status

A_DIGEST = digest.of_bytes(b"")
SIZES = {"fp32": 78_000, "fp16": 41_000, "w8a8": 24_000, "w8d": 23_000}


def a_variant(
    precision: Precision, sparsity: float, format: FileFormat, score: float, status: Status, reason: str
) -> Judged:
    size = round(SIZES[precision] * (1 - 0.7 * sparsity * 2) * (1.06 if format == "onnx" else 1))
    built = Built(
        id=variant_id("digits", "rpi4", precision, sparsity, format),
        runtime="litert" if format == "tflite" else "onnxruntime",
        format=format,
        precision=precision,
        sparsity=sparsity,
        recipe=(Convert(format),),
        digest=A_DIGEST,
        size_bytes=size,
        parity=Parity(0.01, 0.001, 60.0 if precision.startswith("fp") else 31.5),
        score=score,
        drop=0.9778 - score,
    )
    return Judged(built, status, reason)


@pytest.fixture
def judged() -> tuple[Judged, ...]:
    front, dominated = "within the budget, on the front", "no better than digits.rpi4.w8a8-s50.tflite in score and size"
    failed = Failed(
        id=VariantId("digits.rpi4.w8d.tflite"),
        format="tflite",
        precision="w8d",
        sparsity=0.0,
        reason="the conversion succeeded and is wrong: off by 0.154 of an output range of 0.19 <script>",
        parity=Parity(0.154, 0.81, 3.1),
    )
    return (
        a_variant("w8a8", 0.5, "tflite", 0.9822, "selected", "within the budget, the cheapest expected"),
        a_variant("w8a8", 0.5, "onnx", 0.9822, "kept", front),
        a_variant("w8a8", 0.0, "tflite", 0.9756, "rejected", dominated),
        a_variant("w8a8", 0.0, "onnx", 0.9756, "rejected", dominated),
        a_variant("fp16", 0.5, "tflite", 0.9844, "kept", front),
        a_variant("fp32", 0.5, "tflite", 0.9844, "rejected", "no better than digits.rpi4.fp16-s50.tflite"),
        a_variant("fp32", 0.5, "onnx", 0.9844, "kept", front),
        a_variant("fp32", 0.0, "tflite", 0.9778, "rejected", dominated),
        a_variant("fp32", 0.0, "onnx", 0.9778, "rejected", dominated),
        a_variant("fp16", 0.0, "tflite", 0.9778, "rejected", dominated),
        a_variant("w8d", 0.5, "onnx", 0.9622, "rejected", "drops 0.0156, budget max_drop 0.01"),
        Judged(failed, "rejected", failed.reason),
    )


@pytest.fixture
def manifest(judged: tuple[Judged, ...]) -> Manifest:
    packed = tuple(
        VariantRecord(
            id=one.built.id,
            format=one.built.format,
            runtime=one.built.runtime,
            precision=one.built.precision,
            sparsity=one.built.sparsity,
            digest=A_DIGEST,
            size=one.built.size_bytes,
            score=one.built.score,
            drop=one.built.drop,
            parity=one.built.parity,
            recipe=(),
            golden=A_DIGEST,
            golden_size=1,
            tolerance=(0.1,),
        )
        for one in judged
        if isinstance(one.built, Built) and one.status != "rejected"
    )
    return Manifest(
        schema=SCHEMA,
        name="digits",
        version="1.0.0",
        created="2026-01-02T03:04:05Z",
        profile=ProfileRecord("rpi4", A_DIGEST),
        source=SourceRecord("torch", A_DIGEST, (("torch", "2.13.0"),)),
        signature=Signature((TensorSpec("image", (1, 1, 8, 8), "float32", "NCHW"),), (TensorSpec("logits", (1, 10)),)),
        preprocessing=None,
        labels=tuple("0123456789"),
        metric="top1",
        baseline=0.9778,
        variants=packed,
        default=packed[0].id,
        runtimes={"litert": RuntimeRange(">=2.1,<3"), "onnxruntime": RuntimeRange(">=1.19,<2")},
        locks=(),
        gates=Budget(max_drop=0.01, max_size_mb=16, max_p90_ms=50, max_memory_mb=256),
        provenance=Provenance(A_DIGEST, A_DIGEST, A_DIGEST, A_DIGEST, (("litert-torch", "0.10.0"),)),
    )


MakeReport = Callable[..., Report]


@pytest.fixture
def make_report() -> MakeReport:
    """make_report(board=…, level=…, processes=…): a run of skewed noise around `level` ns, judged as a real one is."""

    def make(board: BoardKind | None = None, level: float = 4.2e5, processes: int = 3) -> Report:
        random = np.random.default_rng(3)
        runs = tuple(
            ProcessRun(
                import_ns=round(4.1e8),
                load_ns=round(3.3e6),
                first_ns=round(level * 2.8),
                warm_ns=tuple(round(level * x) for x in (1.6, 1.3, 1.1, 1.05, 1.02)),
                samples_ns=tuple(
                    round(x) for x in level * math.exp(random.normal(0, 0.006)) * (1 + 0.02 * random.gamma(2, 0.5, 60))
                ),
                vmhwm_kb=61_000,
                baseline_kb=54_500,
            )
            for _ in range(processes)
        )
        summary = stats.summarize(runs)
        told = Conditions(
            governor="ondemand", mhz=(1500, 1500, 1500, 1500), temperature_c=48.3, throttled=0, load_1m=0.2
        )
        evidence = stats.Evidence(runs, summary, 1200, told, told, board, 4)
        return Report(
            bundle=BundleRef("digits", "1.0.0", A_DIGEST),
            variant="digits.rpi4.w8a8-s50.tflite",
            runtime=RuntimeRef("litert", "2.3.0", 1, None),
            device={
                "board_model": "Raspberry Pi 4 Model B Rev 1.1",
                "board": board or "",
                "cpu_model": "Cortex-A72",
                "cpu_features": ["fp", "asimd", "crc32"],
                "cores": 4,
                "memory_kb": 3_884_000,
                "machine": "aarch64",
                "os": "Debian GNU/Linux 12",
                "kernel": "6.6.31",
                "libc": "glibc",
                "libc_version": "2.36",
                "python": "3.11.2",
            },
            run_context=RunContext(
                target="kitchen", started="2026-01-02T03:04:05Z", edgepack="0.1.0", before=told, after=told
            ),
            protocol=BenchProtocol(samples=60),
            processes=runs,
            summary=summary,
            harness_overhead_ns=1200,
            validity=stats.judge(evidence),
        )

    return make
