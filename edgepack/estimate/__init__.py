"""Latencies of builds for which no board was at hand: always an interval with its coverage, never shown as measured."""

from __future__ import annotations

from edgepack.estimate.counting import count
from edgepack.estimate.law import Estimate, Fitted, NoEstimate, Own, core_of, estimate, fitted, lacking

__all__ = ["Estimate", "Fitted", "NoEstimate", "Own", "core_of", "count", "estimate", "fitted", "lacking"]
