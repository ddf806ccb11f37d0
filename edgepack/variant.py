"""A variant: one built model file with its lineage, what it cost, how near it stays to its source, how it was judged."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgepack.digest import Digest
from edgepack.names import FileFormat, Precision, VariantId
from edgepack.profile import RuntimeName
from edgepack.recipe import Recipe

Status = Literal["selected", "kept", "rejected"]


class Parity(Struct, frozen=True):
    """How far a variant's outputs are from the source's on real samples.

    max_abs: largest absolute difference over all outputs; relative: the same over the output's range (max − min of the
    source's); sqnr_db: signal to quantization noise ratio in dB, the worst output's
    """

    max_abs: float
    relative: float
    sqnr_db: float


class Built(Struct, frozen=True, kw_only=True):
    """A variant that exists as a file and was run, not yet judged.

    latency_ms, p90_ms, memory_mb: measured on a target of the profile (p50, p90, peak), or None
    score, drop: None when no evaluation data was given
    """

    id: VariantId
    runtime: RuntimeName
    format: FileFormat
    precision: Precision
    sparsity: float
    recipe: Recipe
    digest: Digest
    size_bytes: int
    parity: Parity
    score: float | None
    drop: float | None
    latency_ms: float | None = None
    p90_ms: float | None = None
    memory_mb: float | None = None
    macs: int | None = None
    parameters: int | None = None


class Failed(Struct, frozen=True, kw_only=True):
    """A variant that could not be made, or whose answers were wrong: never packed, always with a reason."""

    id: VariantId
    format: FileFormat
    precision: Precision
    sparsity: float
    reason: str
    parity: Parity | None = None


class Judged(Struct, frozen=True):
    """A variant with the verdict of the selection. Every verdict has a reason."""

    built: Built | Failed
    status: Status
    reason: str
