"""The golden samples of a variant, run in its real runtime, in a process of its own that may crash or hang."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Dict, List, Sequence

from . import runtime, store
from .faults import Fault

if TYPE_CHECKING:
    from .release import Variant


def run(
    root: str, folder: str, variants: Sequence[Variant], keys: Dict[str, str], seconds: float
) -> List[Dict[str, Any]]:
    """Run each variant's golden samples; one result a variant, the worst difference of each output in its own units.

    Raises Fault: a crash, no end within `seconds`, NaN, another shape, or a difference above the manifest's tolerance.
    """
    return [_one(root, folder, variant, keys, seconds) for variant in variants]


def _one(root: str, folder: str, variant: Variant, keys: Dict[str, str], seconds: float) -> Dict[str, Any]:
    if variant.runtime not in keys:
        raise Fault("bug", f"no runtime {variant.runtime} was named for {variant.id}")
    chosen = runtime.require(root, keys[variant.runtime])
    task = {
        "model": os.path.join(folder, variant.id),
        "runtime": variant.runtime,
        "golden": store.blob_path(root, variant.golden),
    }
    try:
        done = subprocess.run(
            [chosen.python, "-I", sys.argv[0], "judge"],
            input=json.dumps(task).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise _refused(variant, f"did not end within {seconds:.0f} s") from None
    if done.returncode < 0:
        raise _refused(variant, f"died of signal {-done.returncode} in {chosen.runtime} {chosen.version}")
    if done.returncode:
        raise _refused(variant, (done.stderr.decode("utf-8", "replace").strip().splitlines() or ["failed"])[-1][:500])
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    _compare(variant, answer["worst"])
    return {"variant": variant.id, "runtime_version": chosen.version, **answer}


def _compare(variant: Variant, worst: Sequence[Any]) -> None:
    if len(worst) != len(variant.tolerance):
        raise _refused(variant, f"gave {len(worst)} outputs where the manifest has {len(variant.tolerance)} tolerances")
    for index, (difference, bound) in enumerate(zip(worst, variant.tolerance)):
        if difference is None or not math.isfinite(difference):
            raise _refused(variant, f"output {index} holds NaN or infinity, or another shape than expected")
        if difference > bound:
            raise _refused(variant, f"output {index} is off by {difference:.6g}, tolerance {bound:.6g}")


def _refused(variant: Variant, what: str) -> Fault:
    return Fault(
        "gate",
        f"the self-test of {variant.id} on the board failed: {what}",
        expected="the bundle's golden samples to give the expected outputs",
        advice="the release was not activated; rebuild the bundle, or look at the board's runtime",
    )


def judge(task: Dict[str, str]) -> Dict[str, Any]:
    """In the runtime's own Python: the worst difference of each output over all golden samples; None for NaN or a wrong shape.

    The golden file holds `input_N` and `output_N`, samples along the first axis.
    """
    import numpy as np

    from .run import open_model

    session = open_model(task["model"], task["runtime"])
    with np.load(task["golden"], allow_pickle=False) as arrays:
        inputs = [arrays[f"input_{i}"] for i in range(sum(name.startswith("input_") for name in arrays.files))]
        expected = [arrays[f"output_{i}"] for i in range(sum(name.startswith("output_") for name in arrays.files))]
    batch = session.inputs[0].shape[0] if session.inputs and session.inputs[0].shape else 1
    step = batch if isinstance(batch, int) and batch > 0 else 1
    worst: List[Any] = [0.0] * len(expected)
    for start in range(0, len(inputs[0]), step):
        outputs = session.run([array[start : start + step] for array in inputs])
        if len(outputs) != len(expected):
            return {"worst": [None] * len(expected), "samples": start}
        for i, output in enumerate(outputs):
            wanted = expected[i][start : start + step]
            worst[i] = _worse(np, worst[i], output, wanted)
    return {"worst": worst, "samples": len(inputs[0])}


def _worse(np: Any, so_far: Any, output: Any, wanted: Any) -> Any:
    if so_far is None or output.size != wanted.size or not np.all(np.isfinite(output)):
        return None
    difference = np.abs(output.astype(np.float64).reshape(-1) - wanted.astype(np.float64).reshape(-1))
    return max(so_far, float(difference.max()) if difference.size else 0.0)
