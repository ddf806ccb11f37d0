"""A build as the digits demo gives it, and reports as boards of every kind give them, with traces whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

from edgepack import digest, stats, verdict
from edgepack.manifest import SCHEMA, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord
from edgepack.model import Signature, TensorSpec
from edgepack.names import FileFormat, Precision, VariantId, variant_id
from edgepack.profile import Budget, RuntimeRange
from edgepack.recipe import Convert
from edgepack.report import (
    BenchProtocol,
    Block,
    BundleRef,
    ColdStart,
    Conditions,
    Energy,
    Minute,
    Operator,
    ProcessRun,
    Report,
    RunContext,
    RuntimeRef,
    SweepPoint,
)
from edgepack.reports import Build
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
        provenance=Provenance(A_DIGEST, A_DIGEST, A_DIGEST, A_DIGEST, (("litert-torch", "0.10.0"),), 128, 450),
    )


Trace = Literal["steady", "throttled", "bimodal"]
THROTTLED_FROM = 0.55
"""Of the run, in the trace of that name."""
THROTTLED_CLOCK, CLOCK = 1000, 1500
BLOCK = 20


def a_process(
    level: float, trace: Trace, number: int, of: int, samples: int, random: np.random.Generator
) -> ProcessRun:
    """Samples around `level` ns; every BLOCK of them the board is asked."""
    own = level * math.exp(random.normal(0, 0.006))
    times: list[int] = []
    blocks: list[Block] = []
    at = 0
    for index in range(samples):
        done = (number + index / samples) / of
        hot = trace == "throttled" and done >= THROTTLED_FROM
        if index % BLOCK == 0:
            warmth = (
                47 + 36 * (1 - math.exp(-3.2 * done)) if trace == "throttled" else 47 + 4 * (1 - math.exp(-6 * done))
            )
            clock = THROTTLED_CLOCK if hot else CLOCK
            at += 2_000_000  # the board is asked
            blocks.append(
                Block(
                    start=index, at_ns=at, temperature_c=round(warmth, 1), mhz=(clock,) * 4, load_1m=0.2 + done,
                    throttled=0x80008 if hot else 0,
                )
            )  # fmt: skip
        factor = (CLOCK / THROTTLED_CLOCK if hot else 1.0) * (
            1.35 if trace == "bimodal" and random.random() < 0.4 else 1.0
        )
        times.append(round(own * factor * (1 + 0.02 * random.gamma(2, 0.5)) * (1.9 if random.random() < 0.004 else 1)))
        at += times[-1]
    return ProcessRun(
        import_ns=round(4.1e8),
        load_ns=round(3.3e6),
        first_ns=round(level * 2.8),
        warm_ns=tuple(round(level * x) for x in (1.6, 1.3, 1.1, 1.05, 1.02)),
        samples_ns=tuple(times),
        vmhwm_kb=61_000,
        baseline_kb=54_500,
        blocks=tuple(blocks),
    )


def a_report(
    board: BoardKind | None = None,
    level: float = 4.2e5,
    processes: int = 5,
    samples: int = 60,
    trace: Trace = "steady",
    passes: bool = False,
    **more: Any,
) -> Report:
    """passes: with everything that a run can have beside its headline. more: fields of the report to replace."""
    random = np.random.default_rng(3)
    runs = tuple(a_process(level, trace, number, processes, samples, random) for number in range(processes))
    summary = stats.summarize(runs)
    before = Conditions(
        governor="ondemand",
        mhz=(CLOCK,) * 4,
        temperature_c=48.3,
        throttled=0,
        load_1m=0.2,
        memory_available_kb=3_100_000,
    )
    last = runs[-1].blocks[-1]
    after = Conditions(
        governor="ondemand", mhz=last.mhz, temperature_c=last.temperature_c, throttled=last.throttled, load_1m=1.02,
        memory_available_kb=3_050_000,
    )  # fmt: skip
    evidence = verdict.Evidence(runs, summary, 1200, before, after, board, 4)
    given: dict[str, Any] = {
        "bundle": BundleRef("digits", "1.0.0", A_DIGEST),
        "variant": "digits.rpi4.w8a8-s50.tflite",
        "runtime": RuntimeRef("litert", "2.3.0", 1, None),
        "device": {
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
        "run_context": RunContext(
            target="kitchen", started="2026-01-02T03:04:05Z", edgepack="0.1.0", before=before, after=after
        ),
        "protocol": BenchProtocol(samples=samples),
        "processes": runs,
        "summary": summary,
        "harness_overhead_ns": 1200,
        "validity": verdict.judge(evidence),
    }
    return Report(**{**given, **(_passes(level, random) if passes else {}), **more})


def _passes(level: float, random: np.random.Generator) -> dict[str, Any]:
    sweep = []
    for threads, speed in ((1, 1.0), (2, 1.85), (3, 2.5), (4, 2.9)):
        p50 = round(level / speed)
        sweep.append(
            SweepPoint(
                threads=threads, p50_ns=p50, p90_ns=round(p50 * (1.04 + 0.05 * threads)),
                interval_ns=(round(p50 * 0.99), round(p50 * 1.012)), throughput_per_s=1e9 / p50,
                verdict="suspect" if threads == 4 else "valid",
            )
        )  # fmt: skip
    sustained = tuple(
        Minute(
            minute=minute, p50_ns=round(level * (1.0 if minute < 6 else 1.5)),
            p90_ns=round(level * (1.05 if minute < 6 else 1.62)), count=1000,
            temperature_c=round(47 + 36 * (1 - math.exp(-0.4 * minute)), 1),
            mhz=(CLOCK if minute < 6 else THROTTLED_CLOCK,) * 4,
        )
        for minute in range(10)
    )  # fmt: skip
    spent = [("CONV_2D", 12, 30.0), ("DEPTHWISE_CONV_2D", 12, 9.0), ("FULLY_CONNECTED", 2, 6.0), ("ADD", 6, 1.5),
             ("SOFTMAX", 1, 0.4), ("AVERAGE_POOL_2D", 1, 0.8), ("RESHAPE", 2, 0.05)]  # fmt: skip
    raw = [
        (f"block_{index}/{kind.lower()}", kind, cost * random.uniform(0.4, 1.6) / count)
        for kind, count, cost in spent
        for index in range(count)
    ]
    total = sum(cost for _, _, cost in raw)
    ops = tuple(
        Operator(name=name, kind=kind, ns=max(1, round(level * cost / total)), share=cost / total, calls=1)
        for name, kind, cost in raw
    )
    cold = ColdStart(import_ns=round(9.3e8), load_ns=round(2.1e7), first_ns=round(level * 6), page_cache="cold")
    energy = Energy(source="the Pi 5's PMIC, the whole board", joules_per_inference=3.1e-3, watts=4.2)
    return {"sweep": tuple(sweep), "sustained": sustained, "cold": cold, "ops": ops, "energy": energy}


MakeReport = Callable[..., Report]


@pytest.fixture
def make_report() -> MakeReport:
    """make_report(board=…, level=…, processes=…, samples=…, trace=…, passes=…): a run, judged as a real one is."""
    return a_report


@pytest.fixture
def build(manifest: Manifest, judged: tuple[Judged, ...]) -> Build:
    return Build(manifest, judged, 0.9778, 80_000)
