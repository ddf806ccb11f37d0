"""Samples that the host sent, through an installed variant in the board's own runtime; what it answers goes back whole."""

from __future__ import annotations

import base64
import io
import os
from typing import Any, Dict, List, NamedTuple

from . import bench, collect, store
from . import run as models
from .child import Beats, Child, serve
from .faults import Fault
from .requests import decode

MOST_BYTES = 24 << 20
"""Of outputs in one answer: what a small board still holds twice in memory."""


class AccuracyRequest(NamedTuple):
    name: str
    release: str
    variant: str
    blob: str
    threads: int = 1
    seconds: float = 600.0


def run(root: str, request: Any) -> Dict[str, Any]:
    """Answer an `AccuracyRequest` of `edgepack.protocol` with an `AccuracyReply`. The samples are removed afterwards."""
    asked = decode(AccuracyRequest, dict(request))
    subject = bench.find_subject(root, bench.BenchRequest(asked.name, asked.release, asked.variant), "golden")
    samples = store.blob_path(root, asked.blob)
    if store.hex_of(asked.blob) in collect.needed(root)[0]:  # whoever asks may not have a release's file removed
        raise Fault(
            "input", f"{asked.blob} belongs to an installed release", expected="samples that were sent to be answered"
        )
    if not os.path.exists(samples):
        raise Fault("board", "the samples are not on this board", expected=samples, advice="run this again")
    order = {"model": subject.model, "runtime": subject.runtime, "samples": samples, "threads": asked.threads}
    title = f"accuracy of {subject.variant} in {subject.runtime}"
    try:
        answer = Child(subject.python, __name__, title, asked.seconds, "ask fewer samples").ask(order).reply
    finally:
        os.unlink(samples)
    return {"variant": subject.variant, **answer}


def child() -> None:
    serve(_work)


def _work(order: Dict[str, Any], beats: Beats) -> Dict[str, Any]:
    import numpy as np

    session = models.open_model(order["model"], order["runtime"], order["threads"])
    with np.load(order["samples"], allow_pickle=False) as arrays:
        inputs = [arrays[f"input_{index}"] for index in range(len(arrays.files))]
    rows: List[List[Any]] = [session.run([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]
    outputs: Dict[str, Any] = {
        f"output_{index}": np.stack([row[index] for row in rows]) for index in range(len(rows[0]))
    }
    if (size := sum(array.nbytes for array in outputs.values())) > MOST_BYTES:
        raise models.ModelError(f"{size / 1e6:.0f} MB of outputs, at most {MOST_BYTES / 1e6:.0f}: take a smaller part")
    packed = io.BytesIO()
    np.savez(packed, **outputs)
    return {"runtime_version": session.version, "outputs": base64.b64encode(packed.getvalue()).decode()}
