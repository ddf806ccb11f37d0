"""Manifests of releases that no build made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack import digest
from edgepack.lock import RuntimeLock
from edgepack.manifest import (
    SCHEMA,
    LockRecord,
    Manifest,
    ProfileRecord,
    Provenance,
    SourceRecord,
    VariantRecord,
)
from edgepack.model import Signature, TensorSpec
from edgepack.profile import Budget, RuntimeRange
from edgepack.recipe import Convert
from edgepack.variant import Parity


def variant_of(id: str, model: bytes, golden: bytes, **other: Any) -> VariantRecord:
    """A float variant of these bytes. id: `NAME.PROFILE.PRECISION.FORMAT`; other: fields that are to be others"""
    *_, precision, format = id.split(".")
    plain: dict[str, Any] = {
        "runtime": {"onnx": "onnxruntime", "tflite": "litert"}[format],
        "sparsity": 0.0,
        "score": None,
        "drop": None,
        "parity": Parity(0.0, 0.0, 99.0),
        "recipe": (Convert(format),),
        "tolerance": (0.01,),
    }
    return VariantRecord(
        id=id,
        format=format,
        precision=precision,
        digest=digest.of_bytes(model),
        size=len(model),
        golden=digest.of_bytes(golden),
        golden_size=len(golden),
        **{**plain, **other},
    )


def manifest_of(
    name: str,
    version: str,
    profile: str,
    variants: Sequence[VariantRecord],
    locks: Sequence[RuntimeLock] = (),
    *,
    inputs: int = 4,
    outputs: int = 3,
    **other: Any,
) -> Manifest:
    """Of a model that makes `x` [1, inputs] to `y` [1, outputs]; the first variant is the default. other: as above"""
    packed = [digest.canonical_json(lock) for lock in locks]
    plain: dict[str, Any] = {
        "source": SourceRecord(variants[0].format, variants[0].digest, ()),
        "labels": (),
        "metric": "mae",
        "baseline": None,
        "runtimes": {"onnxruntime": RuntimeRange(">=1.19,<2")},
    }
    return Manifest(
        schema=SCHEMA,
        name=name,
        version=version,
        created="2026-01-02T03:04:05Z",
        profile=ProfileRecord(profile, digest.of_bytes(b"profile")),
        signature=Signature((TensorSpec("x", (1, inputs)),), (TensorSpec("y", (1, outputs)),)),
        preprocessing=None,
        variants=tuple(variants),
        default=variants[0].id,
        locks=tuple(
            LockRecord(digest.of_bytes(data), len(data), lock.runtime, lock.python, lock.machine)
            for data, lock in zip(packed, locks, strict=True)
        ),
        gates=Budget(),
        provenance=Provenance(digest.of_bytes(b"plan"), None, None, None, ()),
        **{**plain, **other},
    )
