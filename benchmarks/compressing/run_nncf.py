"""NNCF in an environment of its own: run_nncf.py default|accuracy FLAVOUR DROP FLOAT.onnx CALIBRATION.npz VALIDATION.npz OUT

As its documentation and its ONNX examples say: `nncf.quantize` with the model type `transformer` for one, the `mixed` preset
where activations are not ReLU; `quantize_with_accuracy_control` with a validation function that gives the metric and each
sample's own, from which it ranks layers (it cannot rank ONNX layers by outputs).
"""

import sys

import nncf
import numpy as np
import onnx
import onnxruntime


def main() -> None:
    how, flavour, drop, source, calibration, validation, out = sys.argv[1:]
    model = onnx.load(source)
    name = model.graph.input[0].name
    ranges = nncf.Dataset(list(np.load(calibration)["x"]), lambda x: {name: x[None]})
    options = {
        "plain": {},
        "smooth": {"preset": nncf.QuantizationPreset.MIXED},
        "transformer": {"model_type": nncf.ModelType.TRANSFORMER},
    }[flavour]
    if how == "default":
        onnx.save(nncf.quantize(model, ranges, **options), out)
        return

    def judge(candidate, items):
        session = onnxruntime.InferenceSession(candidate.SerializeToString(), providers=["CPUExecutionProvider"])
        right = [float(session.run(None, {name: x[None]})[0].argmax() == y) for x, y in items]
        return float(np.mean(right)), right

    labelled = np.load(validation)
    held = nncf.Dataset(list(zip(labelled["x"], labelled["y"], strict=True)), lambda item: {name: item[0][None]})
    onnx.save(nncf.quantize_with_accuracy_control(model, ranges, held, judge, max_drop=float(drop), **options), out)


if __name__ == "__main__":
    main()
