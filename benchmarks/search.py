"""What `edgepack tune` finds beside optuna's RandomSampler: the same space, the same number of trials, the same seeds.

    .venv/bin/python benchmarks/search.py [--trials 30] [--seeds 6] [--json FILE]

A small convolutional net on scikit-learn's digits (897 scans to train on, 450 that the search sees), for x86-64 in ONNX: five
precisions, sparsities up to a half, ways to take ranges, to correct, to recover. Every recipe is made once, whoever asks for it.
Two figures a run, of the front within the budget: the hypervolume over points of top-1 lost, the logarithm of bytes and the
expected cost, as a share of that of the front of everything that any run found; and the smallest file that loses at most a
point, over the smallest that any run found. A trial that random sampling spends on a recipe it had before is not counted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

from msgspec import structs

from edgepack import pipeline
from edgepack.digest import Digest
from edgepack.pipeline.make import Workshop, candidate
from edgepack.pipeline.prepare import prepare, scored_on
from edgepack.pipeline.school import School
from edgepack.ports import Silent
from edgepack.recipe import Recipe
from edgepack.select import Scales
from edgepack.tuning.front import Outcome, front, objectives
from edgepack.tuning.space import Space, key_of, space_of
from edgepack.tuning.split import halves
from edgepack.tuning.study import Limits, Study, open_study, search
from edgepack.variant import Built, Failed

DIGITS = Path(__file__).parent.parent / "edgepack" / "demo" / "digits"
MOST_LOST = 0.02
POINT = 0.01

PROFILE = f"""
schema = "edgepack.profile/1"
title = "this machine, ONNX alone"
extends = "linux-x86_64"
[device]
systems = []
[runtimes]
onnxruntime = ">=1.19,<2"
[compress]
precisions = ["w8a8", "w8d", "fp16", "w4", "fp32"]
sparsities = [0.0, 0.5]
[budget]
max_drop = {MOST_LOST}
"""
PROJECT = """
name = "digits"
[model]
source = "model.py:build"
weights = "digits.pt"
inputs = [{ name = "image", shape = [1, 1, 8, 8] }]
[data]
calibration = "data.py:calibration"
evaluation = "data.py:evaluation"
training = "data.py:training"
metric = "top1"
[build]
profiles = ["here.toml"]
epochs = 4
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30, help="of each run")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--json", type=Path, help="write the runs to this file as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDGEPACK_HOME"] = f"{folder}/home"
        laboratory = prepared(Path(folder))
        runs = [
            run(laboratory, who, seed, options.trials, Path(folder)) for seed in range(options.seeds) for who in WHO
        ]
    rows = judged(runs, laboratory)
    show(rows, laboratory, options.trials)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


@dataclass
class Laboratory:
    """Makes and scores each recipe once. made: by the recipe's key"""

    space: Space
    scales: Scales
    workshop: Workshop
    made: dict[Digest, Built | Failed] = field(default_factory=dict)

    def evaluate(self, number: int, recipe: Recipe) -> Built | Failed:
        key = key_of(recipe)
        if key not in self.made:
            self.made[key] = candidate(self.workshop.make(recipe))
        return self.made[key]


@dataclass(frozen=True)
class Run:
    who: str
    seed: int
    outcomes: tuple[Outcome, ...]
    overhead: float


@dataclass(frozen=True)
class Row:
    """volume: of the front, as a share of everything's; size: the smallest file that loses a point at most, over everything's

    overhead: seconds a trial beside making and scoring
    """

    who: str
    seed: int
    volume: float
    size: float
    overhead: float


def prepared(folder: Path) -> Laboratory:
    """The net, trained, and what a search would work with."""
    for file in ("model.py", "train.py"):
        (folder / file).write_text((DIGITS / file).read_text())
    data = (DIGITS / "data.py").read_text().replace("test_size=450", "test_size=900")
    (folder / "data.py").write_text(data)
    (folder / "here.toml").write_text(PROFILE)
    (folder / "edgepack.toml").write_text(PROJECT)
    subprocess.run([sys.executable, "train.py", "digits.pt"], cwd=folder, check=True, capture_output=True)
    wanted = pipeline.request(str(folder), (str(folder / "here.toml"),), {})
    inputs = prepare(wanted, Silent())
    (plan,) = pipeline.plans_of(wanted, inputs)
    assert inputs.scored is not None
    seen = scored_on(inputs, halves(inputs.scored.samples, 0)[0])
    workshop = Workshop(plan, seen, Silent(), School(seen, Silent(), "digits"))
    return Laboratory(space_of(plan), Scales(plan.profile.profile, measured=False), workshop)


def as_it_is(study: Study, space: Space, seed: int) -> None:
    """edgepack's own sampler, after what `build` would make."""


def same_start(study: Study, space: Space, seed: int) -> None:
    """Random, after what `build` would make."""
    import optuna

    study.inner.sampler = optuna.samplers.RandomSampler(seed)


def from_nothing(study: Study, space: Space, seed: int) -> None:
    """Random from the first trial on."""
    same_start(study, space, seed)
    study.inner.enqueue_trial({})  # a study that holds a trial begins with no others


WHO: dict[str, Callable[[Study, Space, int], None]] = {
    "edgepack tune": as_it_is,
    "random, same start": same_start,
    "random": from_nothing,
}


def run(laboratory: Laboratory, who: str, seed: int, trials: int, folder: Path) -> Run:
    space = laboratory.space
    study = open_study("run", f"sqlite:///{folder}/{who}-{seed}.db", space, seed, 600)
    WHO[who](study, space, seed)
    making = 0.0

    def evaluate(number: int, recipe: Recipe) -> Built | Failed:
        nonlocal making
        before = time.perf_counter()
        built = laboratory.evaluate(number, recipe)
        making += time.perf_counter() - before
        return built

    begun = time.perf_counter()
    outcomes = tuple(search(study, space, evaluate, laboratory.scales, Limits(None, trials, 600)))
    overhead = (time.perf_counter() - begun - making) / len(outcomes)
    print(f"{who}, seed {seed}: {len(laboratory.made)} recipes made so far", file=sys.stderr)
    return Run(who, seed, outcomes, overhead)


def judged(runs: Sequence[Run], laboratory: Laboratory) -> list[Row]:
    found = {one.key: one for each in runs for one in each.outcomes}
    every = [structs.replace(one, number=number) for number, one in enumerate(found.values())]
    whole, least = volume(every, laboratory.scales), smallest(every)
    return [
        Row(
            each.who,
            each.seed,
            volume(each.outcomes, laboratory.scales) / whole,
            smallest(each.outcomes) / least,
            each.overhead,
        )
        for each in runs
    ]


def volume(outcomes: Sequence[Outcome], scales: Scales) -> float:
    """Of what the front beats, down to the budget's drop, 256 KB and float arithmetic."""
    worst = (MOST_LOST, math.log2(256e3), 3.5)
    points = set()
    for one in front(outcomes, scales):
        lost, size, cost = objectives(one.built, scales)
        point = (lost, math.log2(size), cost)
        if all(ours < theirs for ours, theirs in zip(point, worst, strict=True)):
            points.add(point)
    return volume_under(sorted(points), worst)


def volume_under(points: Sequence[tuple[float, ...]], worst: tuple[float, ...]) -> float:
    """By slices along the last axis (all axes are made small)."""
    if not points:
        return 0.0
    if len(worst) == 1:
        return worst[0] - min(point[0] for point in points)
    levels = sorted({point[-1] for point in points})
    total = 0.0
    for level, above in zip(levels, [*levels[1:], worst[-1]], strict=True):
        total += (above - level) * volume_under([point[:-1] for point in points if point[-1] <= level], worst[:-1])
    return total


def smallest(outcomes: Sequence[Outcome]) -> float:
    good = [one.built.size_bytes for one in outcomes if one.built.drop is not None and one.built.drop <= POINT]
    return float(min(good, default=10**9))


def show(rows: Sequence[Row], laboratory: Laboratory, trials: int) -> None:
    print(
        f"{trials} trials of {len(laboratory.space.points)} recipes, {len(rows) // len(WHO)} seeds; median (least … most)\n"
    )
    print(f"{'':20}  {'hypervolume':>20}  {'smallest file':>20}  {'s a trial beside':>16}")
    for who in WHO:
        own = [row for row in rows if row.who == who]
        cells = [spread([row.volume for row in own]), spread([row.size for row in own])]
        print(f"{who:20}  {cells[0]:>20}  {cells[1]:>20}  {median(row.overhead for row in own):16.2f}")
    ours = {row.seed: row for row in rows if row.who == "edgepack tune"}
    print()
    for who in list(WHO)[1:]:
        theirs = [row for row in rows if row.who == who]
        better = sum(ours[row.seed].volume > row.volume for row in theirs)
        ratios = spread([ours[row.seed].volume / row.volume for row in theirs])
        sizes = spread([ours[row.seed].size / row.size for row in theirs])
        print(
            f"tune over {who}: hypervolume {ratios}, smallest file {sizes}; larger in {better} of {len(theirs)} seeds"
        )


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.3f} ({min(values):.3f} … {max(values):.3f})"


if __name__ == "__main__":
    main()
