"""Answers and latencies of model files, kept by the file's digest: a file that did not change is not asked again."""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
from pathlib import Path

import numpy as np
from accounting import account

from compressing.cells import THREADS
from compressing.methods import PYTHON
from compressing.places import BENCHMARKS, CACHE, CHECKOUT, HERE

ROUNDS, SECONDS = 3, 0.3


def answers(files: list[Path], evaluation: Path) -> dict[Path, np.ndarray | None]:
    """The outputs of each file on the evaluation set, [n, classes]; None where the runtime died or refused it."""
    kept = {file: _kept("answers", file, evaluation, ".npy") for file in files}
    wanted = {place: file for file, place in kept.items() if not place.exists()}  # the same bytes are asked once
    while wanted:  # one process for all; where it dies, that file is the one without an answer
        pairs = [f"{file}:{place}" for place, file in wanted.items()]
        _ask(["answers", str(evaluation), *pairs], CACHE / "answers" / f"{evaluation.parent.name}.txt")
        left = [place for place in wanted if not place.exists()]
        wanted = {place: wanted[place] for place in left[1:]}
    return {file: np.load(kept[file]) if kept[file].exists() else None for file in files}


def latencies(files: list[Path], evaluation: Path, again: bool = False) -> dict[Path, float]:
    """Milliseconds of one inference on one thread: fresh processes in turns, the least of their medians.

    Files that are compared are measured in the same turns: whoever is missing has all of them measured again.
    """
    kept = {file: _kept("latencies", file, evaluation, ".json") for file in files}
    places = {place: file for file, place in kept.items()}  # the same bytes are timed once
    if again or not all(place.exists() for place in places):
        found: dict[Path, list[float]] = {place: [] for place in places}
        for _ in range(ROUNDS):
            for place, file in places.items():
                log = CACHE / "latencies" / f"{evaluation.parent.name}.txt"
                if _ask(["time", str(evaluation), str(SECONDS), str(file)], log) == 0:
                    found[place].append(statistics.median(json.loads(log.read_text())) / 1e6)
        for place, medians in found.items():
            if medians:
                place.write_text(json.dumps(min(medians)))
    return {file: json.loads(place.read_text()) for file, place in kept.items() if place.exists()}


def _ask(arguments: list[str], log: Path) -> int:
    env = {**THREADS, "PYTHONPATH": str(CHECKOUT)}
    code = account([str(PYTHON), str(HERE / "ask.py"), *arguments], log, env, BENCHMARKS, 600).code
    if code:
        print(Path(f"{log}.err").read_text(errors="replace")[-500:], file=sys.stderr)
    return code


def _kept(what: str, file: Path, evaluation: Path, suffix: str) -> Path:
    hasher = hashlib.sha256(file.read_bytes())
    hasher.update(evaluation.with_suffix(".digest").read_bytes())
    place = CACHE / what
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{hasher.hexdigest()[:24]}{suffix}"
