"""One model from its cells to its rows and bars."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compressing import cells, judging, measuring, methods, models
from compressing.cells import Cell, Variant
from compressing.judging import Bar, Row
from compressing.methods import METHODS
from compressing.models import Model

BUILT = {"w8a8": "static build", "mixed": "static build", "w8d": "dynamic build"}
SLOWER = 1.02
"""A variant that was measured slower than its float parent by less than this is as fast: medians move by that much."""


@dataclass(frozen=True)
class File:
    """One model file to ask."""

    method: str
    title: str
    kind: str
    format: str
    path: Path
    shown: bool = True


@dataclass(frozen=True)
class Compared:
    """failed: (title, why) of the methods that gave no file; note: what it was judged on"""

    model: Model
    rows: list[Row]
    bars: list[Bar]
    failed: list[tuple[str, str]]
    note: str


def compare(model: Model, names: list[str], again: set[str], latency: bool, latency_again: bool) -> Compared:
    """Run what is not kept, ask every file, judge."""
    data = models.data_folder(model)
    done: dict[str, Cell] = {}
    for name in names:
        method = METHODS[name]
        done[name] = cells.cell(model, method, method.who in again, done)
    files = [file for cell in done.values() for file in _files(cell)]
    evaluation = data / "evaluation.npz"
    answered = measuring.answers([file.path for file in files], evaluation)
    usable = [file for file in files if answered[file.path] is not None]
    timed = measuring.latencies([file.path for file in usable], evaluation, latency_again) if latency else {}
    labels = np.load(evaluation)["y"]
    rows = [_row(file, files, done, answered, timed, labels) for file in usable]
    failed = [(methods.title(name), cell.failed) for name, cell in done.items() if cell.failed]
    failed += [(file.title, "its runtime refuses the file") for file in files if answered[file.path] is None]
    return Compared(model, rows, _bars(model, rows, done), failed, (data / "note.txt").read_text())


def _files(cell: Cell) -> list[File]:
    method = METHODS[cell.method]
    if cell.method in methods.BUILDS:
        return [_kept(cell, variant) for variant in cell.variants if variant.path]
    if cell.file is None or method.kind == "call":
        return []
    return [File(method.name, methods.title(method.name), method.kind, method.format, cell.file)]


def _kept(cell: Cell, variant: Variant) -> File:
    selected, measured = variant.status == "selected", cell.method.endswith("--target")
    title = f"{cell.method.removeprefix('edgepack ')} {'selects' if selected else 'keeps'} {variant.precision}"
    kind = BUILT.get(variant.precision, "float build")
    return File(cell.method, title, kind, variant.format, cell.folder / variant.path, selected or measured)


def _row(file: File, files: list[File], done: dict[str, Cell], answered: dict, timed: dict, labels: np.ndarray) -> Row:
    parent = next(other for other in files if other.method == f"convert {file.format}")
    actual, expected = answered[file.path], answered[parent.path]
    right, theirs = actual.argmax(1) == labels, expected.argmax(1) == labels
    drop, noise = judging.paired(theirs, right)
    cell = done[file.method]
    return Row(
        method=file.method,
        title=file.title,
        who=METHODS[file.method].who,
        format=file.format,
        kind=file.kind,
        right=right,
        drop=drop,
        noise=noise,
        agreement=float((actual.argmax(1) == expected.argmax(1)).mean()),
        sqnr_db=judging.sqnr(expected, actual),
        size=file.path.stat().st_size,
        milliseconds=timed.get(file.path),
        cost=cell.cost,
        imports=cell.imports,
        shown=file.shown,
    )


def _bars(model: Model, rows: list[Row], done: dict[str, Cell]) -> list[Bar]:
    bars = judging.int8_bars(rows)

    def cost(name: str):
        return done[name].cost if name in done and (done[name].late or not done[name].failed) else None

    if model.name == "efficientnet_lite0":
        bars.append(judging.decibels(rows))
        bars.append(
            judging.time_bar(
                "at most 1/5 of NNCF accuracy control's time", cost("edgepack w8a8 onnx"), cost("nncf accuracy"), 0.2
            )
        )
    if "olive" in done and "edgepack w8a8 onnx" in done:
        bars.append(
            judging.time_bar(
                "float ONNX to a scored int8: at most half of Olive's time",
                cost("edgepack w8a8 onnx"),
                cost("olive"),
                0.5,
            )
        )
    if "edgepack build" in done:
        calls = [cost(name) for name in methods.BUILD_CALLS]
        raw = judging.summed([call for call in calls if call]) if all(calls) else None
        bars.append(
            judging.time_bar("build: at most 1.5 × its library calls one by one", cost("edgepack build"), raw, 1.5)
        )
    if "edgepack build --target" in done:
        bars.append(_none_slower(rows))
    return bars


def _none_slower(rows: list[Row]) -> Bar:
    """No variant that a build kept is slower than its float parent."""
    floats = {row.format: row.milliseconds for row in rows if row.kind == "float"}
    built = [row for row in rows if row.method == "edgepack build --target" and not row.title.endswith("fp32")]
    claim = "build --target keeps no variant that is slower than its float parent"
    if not built or any(row.milliseconds is None for row in built) or None in floats.values():
        return Bar(claim, None, "not measured")
    ratios = {f"{row.title.split()[-1]} {row.format}": row.milliseconds / floats[row.format] for row in built}
    found = ", ".join(f"{name} {ratio:.2f} ×" for name, ratio in ratios.items())
    return Bar(claim, all(ratio <= SLOWER for ratio in ratios.values()), found)
