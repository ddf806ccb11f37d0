"""What training for quantization gains over quantizing alone: the same float source, both formats, score and signal to noise.

    EDGEPACK_ASSETS=… .venv/bin/python benchmarks/rehearsal.py [--models digit_dscnn …] [--json FILE]

Nets that benchmarks/compression trains, quantized after training, after five more epochs of ordinary training with the same
teacher and rate, and after five epochs of rehearsing (`[build] qat = true`). Scored on an evaluation set that nothing was fitted
on; the difference in points of top-1 is paired over samples, ± its standard error. SQNR: of a quantized file against the
float file that it was made from.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from compressing import models

from edgepack import pipeline, runtimes
from edgepack.pipeline.make import Made, Workshop
from edgepack.pipeline.prepare import Inputs, prepare
from edgepack.pipeline.school import School
from edgepack.ports import Silent
from edgepack.recipe import Recipe, Recover, Rehearse
from edgepack.samples import over

HERE = Path(__file__).parent
NETS = ("activity_cnn", "digit_dscnn", "scans_cnn", "digit_transformer")
PROFILE = """
schema = "edgepack.profile/1"
title = "this machine"
extends = "linux-x86_64"
[device]
systems = []
[compress]
precisions = ["w8a8", "w4"]
[budget]
max_drop = 1
"""
PROJECT = """
name = "net"
[model]
source = "{source}"
inputs = [{{ name = "x", shape = {shape}, dtype = "float32" }}]
[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"
training = "training.npz"
metric = "top1"
[build]
profiles = ["here.toml"]
qat = true
"""


@dataclass(frozen=True)
class Row:
    """alone, longer, rehearsed: top-1 and SQNR (dB) of the file quantized without, after ordinary training, after rehearsing

    gain: of rehearsed over alone, in top-1, ± noise (its standard error, paired); source: the source's top-1; samples: scored on
    """

    net: str
    format: str
    precision: str
    samples: int
    source: float
    alone: tuple[float, float]
    longer: tuple[float, float]
    rehearsed: tuple[float, float]
    gain: float
    noise: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    rows: list[Row] = []
    print(
        f"{'net':18} {'format':7} {'':5} {'source':>6}  {'alone':>14}  {'trained longer':>14}  {'rehearsed':>14}  gain, points"
    )
    for name in options.models:
        for row in compare(name):
            rows.append(row)
            print(line(row), flush=True)
    worse = [row for row in rows if row.gain < -2 * row.noise]
    print(f"\nworse by more than two standard errors: {len(worse)} of {len(rows)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def line(row: Row) -> str:
    cells = [f"{score:.4f} {sqnr:4.1f} dB" for score, sqnr in (row.alone, row.longer, row.rehearsed)]
    gain = f"{row.gain * 100:+.2f} ± {row.noise * 100:.2f}"
    return f"{row.net:18} {row.format:7} {row.precision:5} {row.source:6.4f}  {'  '.join(cells)}  {gain}"


def compare(name: str) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["EDGEPACK_HOME"] = f"{folder}/home"
        write(name, folder)
        wanted = pipeline.request(place, (str(folder / "here.toml"),), {})
        inputs = prepare(wanted, Silent())
        (plan,) = pipeline.plans_of(wanted, inputs)
        workshop = Workshop(plan, inputs, Silent(), School(inputs, Silent(), name))
        for recipe in plan.recipes:
            if isinstance(recipe[0], Rehearse):
                yield _row(name, workshop, inputs, recipe)


def write(name: str, folder: Path) -> None:
    model = models.model(name)
    data = model.data()
    models.module(name)  # trained, where nobody has
    np.savez(folder / "training.npz", x=data.training.x, y=data.training.y)
    np.savez(folder / "calibration.npz", x=data.calibration.x)
    np.savez(folder / "evaluation.npz", x=data.evaluation.x, y=data.evaluation.y)
    (folder / "here.toml").write_text(PROFILE)
    shape = [1, *data.evaluation.x.shape[1:]]
    (folder / "edgepack.toml").write_text(PROJECT.format(source=f"{HERE}/{model.source()}", shape=shape))


def _row(name: str, workshop: Workshop, inputs: Inputs, recipe: Recipe) -> Row:
    rehearse = recipe[0]
    assert isinstance(rehearse, Rehearse) and inputs.scored is not None
    settings = {field: getattr(rehearse, field) for field in Rehearse.__struct_fields__ if field != "precision"}
    made = [workshop.make((*before, *recipe[1:])) for before in ((), (Recover(**settings),), (rehearse,))]
    alone, longer, rehearsed = (_made(one) for one in made)
    gains = _right(rehearsed, inputs).astype(float) - _right(alone, inputs)
    return Row(
        name,
        alone.variant.format,
        alone.variant.precision,
        len(gains),
        inputs.scored.baseline,
        _figures(alone),
        _figures(longer),
        _figures(rehearsed),
        float(gains.mean()),
        float(gains.std() / len(gains) ** 0.5),
    )


def _made(one: object) -> Made:
    if not isinstance(one, Made):
        sys.exit(f"could not be made: {one}")
    return one


def _figures(made: Made) -> tuple[float, float]:
    assert made.variant.score is not None
    return made.variant.score, made.variant.parity.sqnr_db


def _right(made: Made, inputs: Inputs) -> np.ndarray:
    assert inputs.scored is not None and inputs.scored.samples.labels is not None
    (answers,) = over(runtimes.open_file(made.model, made.variant.format), inputs.scored.samples)
    return answers.argmax(1) == inputs.scored.samples.labels


if __name__ == "__main__":
    main()
