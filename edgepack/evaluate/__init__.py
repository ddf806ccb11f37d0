"""Whether a variant answers as its source does (parity), and how well it does its job (score). Numbers in, numbers out."""

from __future__ import annotations

from edgepack.evaluate.agreement import Agreement, agreement
from edgepack.evaluate.metrics import NAMES, Metric, metric, score
from edgepack.evaluate.parity import FLOAT_TOLERANCE, check_float, parity

__all__ = [
    "FLOAT_TOLERANCE",
    "NAMES",
    "Agreement",
    "Metric",
    "agreement",
    "check_float",
    "higher_is_better",
    "metric",
    "parity",
    "score",
]


def higher_is_better(metric: Metric) -> bool:
    return metric.higher_is_better
