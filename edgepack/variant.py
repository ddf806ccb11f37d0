"""A variant: one built model file with its lineage, what it cost, how near it stays to its source, how it was judged."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from edgepack.digest import Digest
from edgepack.names import FileFormat, Precision, VariantId
from edgepack.profile import RuntimeName
from edgepack.recipe import Recipe
from edgepack.report import Verdict
from edgepack.target import BoardKind

Status = Literal["selected", "kept", "rejected"]


class Parity(Struct, frozen=True):
    """How far a variant's outputs are from the source's on real samples.

    max_abs: largest absolute difference over all outputs; relative: the same over the output's range (max − min of the
    source's); sqnr_db: signal to quantization noise ratio in dB, the worst output's
    """

    max_abs: float
    relative: float
    sqnr_db: float


class Ratio(Struct, frozen=True):
    """A quotient with its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Measurement(Struct, frozen=True, kw_only=True):
    """What one board measured of a variant, in fresh processes there, one thread.

    stand_in: what edgepack put in a device's place, None for a device; p50_ms, p90_ms: of all samples
    memory_mb: peak resident set of a process, 10^6 bytes; against_parent: its median over its float parent's, there
    verdict, reasons: whether that says something of the device; what is `invalid` decides nothing
    """

    target: str
    stand_in: BoardKind | None
    p50_ms: float
    p90_ms: float
    memory_mb: float
    against_parent: Ratio | None
    verdict: Verdict
    reasons: tuple[str, ...]


class LayerReport(Struct, frozen=True):
    """One quantized layer beside the float file's, with all layers before it quantized too, on a few calibration samples.

    sqnr_db, cosine: of its output before the activation; low, high: the range that its output's integers cover
    clipped: the share of calibration values beyond that range; shift: how far its bias was corrected, as a share of the
    output's root mean square
    """

    kind: str
    name: str
    sqnr_db: float
    cosine: float
    low: float
    high: float
    clipped: float
    shift: float


class Quantizing(Struct, frozen=True):
    """How a variant was quantized. notes: what was tried and kept, in words; layers: in the order in which they run"""

    variant: VariantId
    notes: tuple[str, ...]
    layers: tuple[LayerReport, ...]


class Built(Struct, frozen=True, kw_only=True):
    """A variant that exists as a file and was run, not yet judged.

    latency_ms, p90_ms, memory_mb: p50, p90 and peak on the slowest board that measured it, None where none could tell
    measured: all that boards said of it, one each
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
    measured: tuple[Measurement, ...] = ()
    macs: int | None = None
    parameters: int | None = None


class Failed(Struct, frozen=True, kw_only=True):
    """A variant that could not be made, or whose answers were wrong: never packed, always with a reason.

    on_board: it was made, and a board that was to measure it could not use it
    """

    id: VariantId
    format: FileFormat
    precision: Precision
    sparsity: float
    reason: str
    parity: Parity | None = None
    on_board: bool = False


class Judged(Struct, frozen=True):
    """A variant with the verdict of the selection. Every verdict has a reason."""

    built: Built | Failed
    status: Status
    reason: str
