"""A report in the formats of other tools: pyperf, google-benchmark, Chrome's trace viewer and Perfetto, Model Explorer, CSV.

Each writer is a pure function from a report to text. What a format wants and edgepack does not measure is said in its file.
"""

from __future__ import annotations

from typing import Literal, assert_never

from edgepack.exports.google_benchmark import google_benchmark
from edgepack.exports.pyperf import pyperf
from edgepack.exports.samples import samples_csv
from edgepack.exports.traces import chrome_trace, model_explorer
from edgepack.report import Report

__all__ = ["Format", "export"]

Format = Literal["pyperf", "google-benchmark", "chrome-trace", "model-explorer", "csv"]


def export(report: Report, to: Format) -> str:
    """The report as a file of that format. Raises InputError where it lacks what the format is about."""
    match to:
        case "pyperf":
            return pyperf(report)
        case "google-benchmark":
            return google_benchmark(report)
        case "chrome-trace":
            return chrome_trace(report)
        case "model-explorer":
            return model_explorer(report)
        case "csv":
            return samples_csv(report)
        case _:
            assert_never(to)
