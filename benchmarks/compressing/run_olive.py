"""Olive in an environment of its own: python run_olive.py uint8|int8 FLOAT.onnx CALIBRATION.npz VALIDATION.npz FOLDER

A workflow as its documentation writes them: an ONNX model, static quantization with onnxruntime's advice for the machine (per
channel, activations as given), accuracy of both models on labelled samples. Writes FOLDER/olive.onnx.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import olive
import onnx
import torch
from olive.data.registry import Registry


@Registry.register_dataset("npz_samples")
def npz_samples(samples: str, name: str, **_: object) -> torch.utils.data.Dataset:
    file = np.load(samples)

    class Samples(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(file["y"])

        def __getitem__(self, index: int):
            return {name: x[index]}, int(y[index])

    x, y = file["x"], file["y"]
    return Samples()


@Registry.register_post_process("first_of_all")
def first_of_all(output, **_: object):
    return (output if isinstance(output, torch.Tensor) else next(iter(output.values()))).argmax(-1)


def main() -> None:
    activations, source, calibration, validation, folder = sys.argv[1:]
    graph = onnx.load(source).graph
    name, classes = graph.input[0].name, graph.output[0].type.tensor_type.shape.dim[-1].dim_value

    def data(title: str, path: str) -> dict:
        return {
            "name": title,
            "user_script": __file__,
            "load_dataset_config": {"type": "npz_samples", "params": {"samples": path, "name": name}},
            "dataloader_config": {"params": {"batch_size": 1}},
            "post_process_data_config": {"type": "first_of_all"},
        }

    accuracy = {
        "name": "accuracy",
        "type": "accuracy",
        "data_config": "validation",
        "sub_types": [
            {"name": "accuracy_score", "priority": 1, "metric_config": {"task": "multiclass", "num_classes": classes}}
        ],
    }
    quantize = {"type": "OnnxStaticQuantization", "data_config": "calibration", "per_channel": True}
    workflow = {
        "input_model": {"type": "ONNXModel", "model_path": source},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "data_configs": [data("calibration", calibration), data("validation", validation)],
        "evaluators": {"common": {"type": "OnnxEvaluator", "metrics": [accuracy]}},
        "passes": {"quantize": {**quantize, "activation_type": activations, "precision": "int8"}},
        "evaluator": "common",
        "host": "here",
        "target": "here",
        "cache_dir": str(Path(folder) / "cache"),
        "output_dir": str(Path(folder) / "out"),
    }
    found = olive.run(workflow)
    print(json.dumps(found.get_best_candidate().metrics_value, default=str))
    shutil.copy(next((Path(folder) / "out").rglob("*.onnx")), Path(folder) / "olive.onnx")


if __name__ == "__main__":
    main()
