"""Ask and time model files, each in the runtime of its format, with the code that runs it on a board.

python ask.py answers EVALUATION.npz FILE:OUT.npy …      outputs on every sample, and the time of each file's first sample
python ask.py time EVALUATION.npz SECONDS FILE           prints the latencies of single inferences on one thread, nanoseconds
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

MODULES = {".onnx": "onnxruntime", ".tflite": "litert"}


def main() -> None:
    what, evaluation, *rest = sys.argv[1:]
    samples = np.load(evaluation)["x"]
    if what == "answers":
        for pair in rest:
            file, out = pair.split(":")
            answers(Path(file), samples, Path(out))
    else:
        print(json.dumps(latencies(Path(rest[1]), samples[:16], float(rest[0]))))


def answers(file: Path, samples: np.ndarray, out: Path) -> None:
    from edgepack.device.run import open_model

    session = open_model(str(file), MODULES[file.suffix], 1)
    found = np.concatenate([session.run((sample[None],))[0].reshape(1, -1) for sample in samples])
    with out.with_suffix(".part").open("wb") as part:
        np.save(part, found)
    out.with_suffix(".part").rename(out)


def latencies(file: Path, samples: np.ndarray, seconds: float) -> list[int]:
    """At least 20 inferences after 5 that warm up, then until the time is over; the input is set before the clock starts."""
    from edgepack.device.run import open_model

    session = open_model(str(file), MODULES[file.suffix], 1)
    inputs = [session.stored([sample[None]]) for sample in samples]
    found: list[int] = []
    stop = time.perf_counter() + seconds
    while len(found) < 25 or time.perf_counter() < stop:
        session.prepare(inputs[len(found) % len(inputs)])
        before = time.perf_counter_ns()
        session.invoke_only()
        found.append(time.perf_counter_ns() - before)
    return found[5:]


if __name__ == "__main__":
    main()
