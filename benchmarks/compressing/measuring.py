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

ROUNDS, SECONDS = 3, 0.4


def answers(files: list[Path], evaluation: Path) -> dict[Path, np.ndarray | None]:
    """The outputs of each file on the evaluation set, [n, classes]; None where the runtime died or refused it."""
    kept = {file: _kept("answers", file, evaluation, ".npy") for file in files}
    wanted = [file for file in files if not kept[file].exists()]
    while wanted:  # one process for all; where it dies, that file is the one without an answer
        pairs = [f"{file}:{kept[file]}" for file in wanted]
        _ask(["answers", str(evaluation), *pairs], CACHE / "answers" / "log.txt")
        left = [file for file in wanted if not kept[file].exists()]
        wanted = left[1:]
    return {file: np.load(kept[file]) if kept[file].exists() else None for file in files}


def latencies(files: list[Path], evaluation: Path, again: bool = False) -> dict[Path, float]:
    """Milliseconds of one inference on one thread: fresh processes in turns, the least of their medians.

    Files that are compared are measured in the same turns: whoever is missing has all of them measured again.
    """
    kept = {file: _kept("latencies", file, evaluation, ".json") for file in files}
    if not again and all(place.exists() for place in kept.values()):
        return {file: json.loads(place.read_text()) for file, place in kept.items()}
    found: dict[Path, list[float]] = {file: [] for file in files}
    for _ in range(ROUNDS):
        for file in files:
            log = CACHE / "latencies" / "log.txt"
            if _ask(["time", str(evaluation), str(SECONDS), str(file)], log) == 0:
                found[file].append(statistics.median(json.loads(log.read_text())) / 1e6)
    best = {file: min(medians) for file, medians in found.items() if medians}
    for file, milliseconds in best.items():
        kept[file].write_text(json.dumps(milliseconds))
    return best


def _ask(arguments: list[str], log: Path) -> int:
    env = {**THREADS, "PYTHONPATH": str(CHECKOUT)}
    code = account([str(PYTHON), str(HERE / "ask.py"), *arguments], log, env, BENCHMARKS, 600).code
    if code:
        print(Path(f"{log}.err").read_text(errors="replace")[-500:], file=sys.stderr)
    return code


def _kept(what: str, file: Path, evaluation: Path, suffix: str) -> Path:
    hasher = hashlib.sha256(file.read_bytes())
    hasher.update(str(evaluation.parent.name).encode())
    place = CACHE / what
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{hasher.hexdigest()[:24]}{suffix}"
