"""Rows and bars: pure decisions over answers, sizes and costs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from accounting import Cost
from numpy.typing import NDArray

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One model file.

    right: which evaluation samples it answers as their labels say; drop: score of its float parent minus its own, with the
    half-width of the paired difference's 95 % interval; agreement: same top-1 as the parent; sqnr_db: of its outputs against
    the parent's; milliseconds: None where it was not measured; cost and imports (seconds): of the process that made it
    kind: of the method's, or `static build`, `dynamic build`, `float build` for what `edgepack build` packed
    shown: False where another row of the table is about the same file
    """

    method: str
    title: str
    who: str
    format: str
    kind: str
    right: Right
    drop: float
    noise: float
    agreement: float
    sqnr_db: float
    size: int
    milliseconds: float | None
    cost: Cost
    imports: float
    shown: bool = True

    @property
    def score(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True)
class Bar:
    """One claim. met: None where what it needs was not measured"""

    claim: str
    met: bool | None
    found: str


def paired(ours: Right, theirs: Right) -> tuple[float, float]:
    """(difference of the scores, half-width of its 95 % interval): samples are paired, as in McNemar's test."""
    difference = ours.astype(float) - theirs.astype(float)
    return float(difference.mean()), 1.96 * float(difference.std(ddof=1)) / math.sqrt(len(difference))


def sqnr(expected: np.ndarray, actual: np.ndarray) -> float:
    """10 log10(Σ signal² / Σ noise²) over all outputs, at most 200 dB."""
    error = float(((expected - actual).astype(np.float64) ** 2).sum())
    return 200.0 if error == 0 else min(200.0, 10 * math.log10(float((expected.astype(np.float64) ** 2).sum()) / error))


def int8_bars(rows: list[Row]) -> list[Bar]:
    """For each format, static and dynamic int8: whether a file of edgepack's is nowhere behind the best peer's.

    The best peer is the one of the highest score; among those that tie with it within the noise, the smallest. Edgepack
    reaches it with a file that is no larger and scores no less than it, or ties with it.
    """
    bars = []
    for format, kind in product(("onnx", "tflite"), ("static", "dynamic")):
        alike = [row for row in rows if (row.format, row.kind) == (format, kind)]
        peers = [row for row in alike if row.who != "edgepack"]
        ours = [
            row
            for row in rows
            if row.who == "edgepack" and (row.format, row.kind) in ((format, kind), (format, f"{kind} build"))
        ]
        if peers and ours:
            bars.append(_int8_bar(f"{kind} int8 {format}", peers, ours))
    return bars


def _int8_bar(what: str, peers: list[Row], ours: list[Row]) -> Bar:
    top = max(peers, key=lambda row: row.score)
    best = min((row for row in peers if _reaches(row, top)), key=lambda row: (row.size, -row.score))
    reaching = [row for row in ours if row.size <= best.size and _reaches(row, best)]
    shown = max(
        reaching or ours, key=lambda row: (_reaches(row, best), not row.kind.endswith("build"), row.score, row.sqnr_db)
    )
    difference, noise = paired(shown.right, best.right)
    verdict = "tie" if abs(difference) <= noise else "better" if difference > 0 else "worse"
    points = f"{100 * difference:+.1f} ± {100 * noise:.1f} points ({verdict})"
    size, decibels = shown.size / best.size, shown.sqnr_db - best.sqnr_db
    found = f"{shown.title} {points}, {size:.3f} × its size, {decibels:+.1f} dB"
    return Bar(f"{what}: as accurate as the best peer ({best.title}), no larger", bool(reaching), found)


def _reaches(row: Row, other: Row) -> bool:
    difference, noise = paired(row.right, other.right)
    return difference >= 0 or -difference <= noise


def decibels(rows: list[Row], least: float = 5.0) -> Bar:
    """Edgepack's best int8 ONNX above onnxruntime's per channel."""
    claim = f"at least {least:g} dB above onnxruntime per channel"
    theirs = next((row for row in rows if row.method.startswith("onnxruntime per channel")), None)
    ours = [row for row in rows if row.who == "edgepack" and row.kind == "static" and row.format == "onnx"]
    if theirs is None or not ours:
        return Bar(claim, None, "not measured")
    best = max((row for row in ours if row.size <= 1.2 * theirs.size), key=lambda row: row.sqnr_db, default=ours[0])
    return Bar(claim, best.sqnr_db - theirs.sqnr_db >= least, f"{best.title}: {best.sqnr_db - theirs.sqnr_db:+.1f} dB")


def time_bar(claim: str, ours: Cost | None, theirs: Cost | None, most: float) -> Bar:
    """Whether `ours` takes at most `most` times the wall time of `theirs`, with the CPU times beside it.

    Wall time is what a user waits, and means something only where nothing else runs; CPU time hardly minds.
    """
    if ours is None or theirs is None:
        return Bar(claim, None, "not measured")
    wall, cpu = ours.wall / theirs.wall, ours.cpu / theirs.cpu
    found = f"{wall:.2f} × the wall time ({ours.wall:.1f} / {theirs.wall:.1f} s), {cpu:.2f} × the CPU time"
    return Bar(claim, wall <= most, found)


def summed(costs: list[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs), max(cost.peak for cost in costs))
