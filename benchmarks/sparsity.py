"""Whether a runtime gains from zeros in weights: the same net with more and more of them, beside its dense file.

    .venv/bin/python benchmarks/sparsity.py [--json FILE]

A MobileNet-like net of 96 × 96 built as XNNPACK's sparse inference wants it (explicit padding, 1 × 1 convolutions), random
weights, float, one thread. LiteRT runs the file that TensorFlow's converter encodes sparsely, onnxruntime has no such
encoding. Each is timed in turns with its dense file; the ratio is of the least medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np

from edgepack.quiet import quiet

SHARES = {"50 %": 0.5, "2:4": None, "70 %": 0.7, "80 %": 0.8, "90 %": 0.9}
SIDE, ROUNDS, RUNS = 96, 7, 30
Run = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """time, size: of the sparse file over the dense one's"""

    zeros: str
    runtime: str
    time: float
    size: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    options = parser.parse_args()
    rows = compare()
    print(f"{'zeros':6}  {'runtime':12}  {'time':>5}  {'size':>5}")
    for row in rows:
        print(f"{row.zeros:6}  {row.runtime:12}  {row.time:5.2f}  {row.size:5.2f}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def compare() -> list[Row]:
    with quiet():
        model = net()
        whole = model.get_weights()
        dense = {"litert": tflite(model, sparse=False), "onnxruntime": onnx(model)}
    rows = []
    for zeros, share in SHARES.items():
        with quiet():
            model.set_weights([thinned(weights, share) for weights in whole])
            sparse = {"litert": tflite(model, sparse=True), "onnxruntime": onnx(model)}
        for runtime, file in sparse.items():
            ratio = in_turns(opened(runtime, file), opened(runtime, dense[runtime]))
            rows.append(Row(zeros, runtime, ratio, len(file) / len(dense[runtime])))
    return rows


def net() -> Any:
    import keras

    keras.utils.set_random_seed(0)
    layers = keras.layers
    given = keras.Input((SIDE, SIDE, 3), batch_size=1)
    x = layers.Conv2D(32, 3, 2, activation="relu")(layers.ZeroPadding2D(1)(given))
    for channels, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1)):
        x = layers.DepthwiseConv2D(3, stride, activation="relu")(layers.ZeroPadding2D(1)(x))
        x = layers.Conv2D(channels, 1, activation="relu")(x)
    return keras.Model(given, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def thinned(weights: Any, share: float | None) -> Any:
    """1 × 1 convolutions without the least of their weights: a share of all, or (None) two of every four input channels."""
    if weights.ndim != 4 or weights.shape[:2] != (1, 1):
        return weights
    if share is not None:
        return np.where(np.abs(weights) < np.quantile(np.abs(weights), share), 0, weights)
    fours = weights.reshape(-1, 4, weights.shape[-1]).copy()
    np.put_along_axis(fours, np.argsort(np.abs(fours), 1)[:, :2], 0, 1)
    return fours.reshape(weights.shape)


def tflite(model: Any, *, sparse: bool) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY] if sparse else []
    return bytes(converter.convert())


def onnx(model: Any) -> bytes:
    import tf2onnx

    return bytes(tf2onnx.convert.from_keras(model, opset=17)[0].SerializeToString())


def opened(runtime: str, file: bytes) -> Run:
    x = np.random.default_rng(0).standard_normal((1, SIDE, SIDE, 3)).astype(np.float32)
    if runtime == "litert":
        from ai_edge_litert.interpreter import Interpreter

        with tempfile.NamedTemporaryFile(suffix=".tflite") as place:
            Path(place.name).write_bytes(file)
            interpreter = Interpreter(model_path=place.name, num_threads=1)
            interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        return interpreter.invoke
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def in_turns(one: Run, two: Run) -> float:
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for run, medians in zip((one, two), taken, strict=True):
            run()
            medians.append(statistics.median(timed(run) for _ in range(RUNS)))
    return min(taken[0]) / min(taken[1])


def timed(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
