"""Every time that was taken, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from edgepack.report import ProcessRun, Report

COLUMNS = ("process", "phase", "index", "ns", "temperature_c", "mhz")


def samples_csv(report: Report) -> str:
    """A row a time: its process (1, 2, …), phase (`import`, `load`, `first`, `warm`, `sample`), index in the phase, nanoseconds.

    temperature_c, mhz: what the board said before the block that a sample belongs to; empty where it does not tell
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, process in enumerate(report.processes, 1):
        writer.writerows((number, *row) for row in _rows(process))
    return out.getvalue()


def _rows(process: ProcessRun) -> Iterator[tuple[str, int, int, str, str]]:
    for phase, value in (("import", process.import_ns), ("load", process.load_ns), ("first", process.first_ns)):
        yield phase, 0, value, "", ""
    for index, value in enumerate(process.warm_ns):
        yield "warm", index, value, "", ""
    blocks = list(process.blocks)
    heat, clock = "", ""
    for index, value in enumerate(process.samples_ns):
        while blocks and blocks[0].start <= index:
            block = blocks.pop(0)
            heat = "" if block.temperature_c is None else f"{block.temperature_c:g}"
            clock = " ".join(map(str, block.mhz))
        yield "sample", index, value, heat, clock
