"""`edgepack export`: a report for other tools."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    PYPERF = "pyperf"
    GOOGLE_BENCHMARK = "google-benchmark"
    CHROME_TRACE = "chrome-trace"
    MODEL_EXPLORER = "model-explorer"
    CSV = "csv"


def export(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="What edgepack bench --json printed.")],
    to: Annotated[Format, typer.Option(help="The format.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file (default: standard output).")] = None,
) -> None:
    """Write a report for pyperf, google-benchmark, Chrome's trace viewer, Model Explorer, or as CSV."""
    from edgepack import exports, files
    from edgepack.cli.reading import read_report

    text = exports.export(read_report(report), to.value)
    if out is None:
        sys.stdout.write(text)
    else:
        files.replace(out, text.encode())
