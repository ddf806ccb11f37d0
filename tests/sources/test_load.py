"""Models of every source format arrive with fixed shapes and real answers; every mistake is one clear error."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import InputError
from edgepack.model import Format, TensorSpec
from edgepack.quiet import quiet

pytestmark = [pytest.mark.frameworks]

FEATURES = TensorSpec("features", (1, 10))


def answers(loaded, count: int = 3) -> np.ndarray:
    x = (
        np.random.default_rng(1)
        .standard_normal((count, *loaded.model.signature.inputs[0].shape[1:]))
        .astype(np.float32)
    )
    return np.concatenate([loaded.run((x[i : i + 1],))[0] for i in range(count)])


def save_onnx(path: Path, shape, dims=("batch",)) -> Path:
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Log", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


# What goes through


def test_linear_regression_with_nothing_but_calibration(linear, load_source):
    loaded = load_source("linear.py:build", calibration="linear.npz")
    assert loaded.model.signature.inputs == (FEATURES,)
    assert loaded.model.signature.outputs == (TensorSpec("output", (1, 1)),)
    assert loaded.model.format is Format.TORCH and loaded.native.trainable
    import torch

    x = np.load(linear / "linear.npz")["x"].astype(np.float32)[:4]
    with torch.no_grad():
        expected = loaded.native.module(torch.tensor(x)).numpy()
    np.testing.assert_allclose(loaded.run((x,))[0], expected)


def test_the_digest_follows_code_and_weights(linear, load_source):
    first = load_source("linear.py:build", FEATURES).model.digest
    assert load_source("linear.py:build", FEATURES).model.digest == first
    code = (linear / "linear.py").read_text()
    (linear / "linear.py").write_text(code + "# a word\n")
    second = load_source("linear.py:build", FEATURES).model.digest
    (linear / "linear.py").write_text(code.replace("manual_seed(0)", "manual_seed(1)"))
    assert len({first, second, load_source("linear.py:build", FEATURES).model.digest}) == 3


@pytest.mark.parametrize("form", ["plain", "checkpoint", "data parallel"])
def test_weights(form, linear, load_source):
    import torch

    state = {"linear.weight": torch.ones(1, 10), "linear.bias": torch.zeros(1)}
    saved = {
        "plain": state,
        "checkpoint": {"epoch": 3, "state_dict": state},
        "data parallel": {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    }
    torch.save(saved[form], linear / "w.pt")
    loaded = load_source("linear.py:build", FEATURES, weights="w.pt")
    assert loaded.run((np.ones((1, 10), np.float32),))[0].item() == 10.0


def test_keras_model_from_a_callable_with_weights(tmp_path, load_source):
    (tmp_path / "net.py").write_text(
        "import keras\ndef build():\n    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])\n"
    )
    model = load_source("net.py:build")
    assert [str(spec) for spec in model.model.signature.inputs] == [
        f"{model.model.signature.inputs[0].name}: float32[1, 3]"
    ]
    with quiet():
        model.native.model.save_weights(tmp_path / "k.weights.h5")
    again = load_source("net.py:build", weights="k.weights.h5")
    np.testing.assert_array_equal(answers(again), answers(model))
    assert again.model.format is Format.KERAS


def test_a_subclassed_keras_model_needs_its_inputs(tmp_path, load_source):
    (tmp_path / "net.py").write_text(
        "import keras\nclass Net(keras.Model):\n    def __init__(self):\n        super().__init__()\n"
        "        self.dense = keras.layers.Dense(2)\n    def call(self, x):\n        return self.dense(x)\n"
        "def build():\n    return Net()\n"
    )
    assert load_source("net.py:build", TensorSpec("x", (1, 3))).model.signature.outputs[0].shape == (1, 2)
    with pytest.raises(InputError, match=r"was never built(.|\n)*--input x=1"):
        load_source("net.py:build")


def test_a_saved_model_that_keras_2_trained(tmp_path, load_source):
    """Its optimizer's slots, which Keras 3 cannot read, are nobody's business at inference."""
    import tensorflow as tf

    class Net(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(tf.ones((3, 2)))

        @tf.function(input_signature=[tf.TensorSpec((None, 3), tf.float32, name="x")])
        def serve(self, x):
            return {"y": x @ self.weight}

    net = Net()
    tf.saved_model.save(net, tmp_path / "saved", signatures=net.serve)
    loaded = load_source("saved")
    np.testing.assert_allclose(loaded.run((np.ones((1, 3), np.float32),))[0], [[3.0, 3.0]])
    assert [spec.name for spec in loaded.model.signature.outputs] == ["y"]


def test_onnx_batch_becomes_one_and_open_sizes_are_declared(tmp_path, load_source):
    save_onnx(tmp_path / "m.onnx", ["batch", "rows", 3])
    loaded = load_source("m.onnx", TensorSpec("x", (1, 4, 3)))
    assert loaded.model.signature.inputs == (TensorSpec("x", (1, 4, 3)),)
    assert loaded.run((np.ones((2, 4, 3), np.float32),))[0].shape == (2, 4, 3), "an open batch still takes several"


@pytest.mark.parametrize("make", [lambda x: x.cos(), lambda x: (x, [x + 1, {"z": x}]), lambda x: {"a": x, "b": x * 2}])
def test_torch_outputs_of_any_structure(make, tmp_path, load_source, monkeypatch):
    import torch

    from edgepack.runtimes.torch_outputs import named_outputs, with_tuple_outputs

    x = torch.ones(1, 2)
    named = named_outputs(make(x))
    wrapped = with_tuple_outputs(make)(x)
    assert len(named) == (len(wrapped) if isinstance(wrapped, tuple) else 1)
    assert len({name for name, _ in named}) == len(named)


# What does not

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
CONTENT = {
    "empty": (b"", "is empty"),
    "pointer": (LFS, "Git LFS pointer(.|\n)*git lfs pull"),
    "noise": (bytes(range(200, 256)) * 20, r"is not an? .*its first bytes are c8 c9"),
    "text": (b"\x0a\x0bhello world and more, not a model at all" * 9, "not a"),
}


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".keras", ".h5", ".pt2", ".pt"])
@pytest.mark.parametrize("content", CONTENT)
def test_files_that_are_no_models(content, suffix, tmp_path, load_source):
    data, said = CONTENT[content]
    (tmp_path / f"bad{suffix}").write_bytes(data)
    with pytest.raises(InputError, match=said) as caught:
        load_source(f"bad{suffix}", FEATURES)
    assert f"bad{suffix}" in str(caught.value)


@pytest.mark.parametrize("source", ["none.onnx", "none.pt", "none", "none.py:build"])
def test_missing_files(source, load_source):
    with pytest.raises(InputError, match="none"):
        load_source(source)


def test_random_onnx_bytes(tmp_path, load_source):
    """No first bytes rule out all noise: the parser must, without a traceback of its own."""
    for seed in range(8):
        (tmp_path / "junk.onnx").write_bytes(b"\x08" + np.random.default_rng(seed).bytes(4096))
        with pytest.raises(InputError, match=r"junk\.onnx"):
            load_source("junk.onnx")


@pytest.mark.parametrize("suffix", [".keras", ".pt2", ".pt"])
def test_a_zip_of_something_else(suffix, tmp_path, load_source):
    with zipfile.ZipFile(tmp_path / f"other{suffix}", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(InputError, match=f"other{suffix}"):
        load_source(f"other{suffix}", FEATURES)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", "no model is named"),
        ("model.py", "names no callable(.|\n)*model.py:build"),
        ("model.bin", "suffix '.bin' is not known"),
        ("folder", "a folder without saved_model.pb"),
    ],
)
def test_what_cannot_be_a_source(source, said, tmp_path, load_source):
    (tmp_path / "model.py").touch()
    (tmp_path / "model.bin").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=said):
        load_source(source)


def test_truncated_models(tmp_path, load_source):
    import keras
    import torch

    with quiet():
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(200)]).save(tmp_path / "a.keras")
        shutil.copy(save_onnx(tmp_path / "b.onnx", [1, 2]), tmp_path / "c.onnx")
        torch.jit.save(torch.jit.script(torch.nn.Linear(10, 1)), tmp_path / "d.pt")
        torch.export.save(torch.export.export(torch.nn.Linear(10, 1), (torch.ones(1, 10),)), tmp_path / "e.pt2")
    for name in ("a.keras", "c.onnx", "d.pt", "e.pt2"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
        with pytest.raises(InputError, match=name):
            load_source(name, FEATURES)


def test_weights_given_as_a_model(linear, load_source):
    import torch

    torch.save({"linear.weight": torch.ones(1, 10)}, linear / "state.pt")
    torch.save(torch.nn.Linear(10, 1), linear / "pickled.pt")
    for name in ("state.pt", "pickled.pt"):
        with pytest.raises(InputError, match=rf"{name} holds weights or a pickled module(.|\n)*weights ="):
            load_source(name, FEATURES)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("missing", "missing linear.bias"),
        ("unexpected", "unexpected more"),
        ("shape", r"another shape linear.weight \[1, 9\] for \[1, 10\]"),
        ("pickled", r"w\.pt cannot be read as a state_dict"),
        ("number", "holds no state_dict"),
    ],
)
def test_weights_that_do_not_fit(state, said, linear, load_source):
    import torch

    good = {"linear.weight": torch.ones(1, 10), "linear.bias": torch.zeros(1)}
    saved = {
        "missing": {"linear.weight": good["linear.weight"]},
        "unexpected": {**good, "more": torch.ones(1)},
        "shape": {**good, "linear.weight": torch.ones(1, 9)},
        "pickled": torch.nn.Linear(10, 1),
        "number": {"epoch": 3},
    }
    torch.save(saved[state], linear / "w.pt")
    with pytest.raises(InputError, match=rf"(?s)w\.pt.*({said})|{said}"):
        load_source("linear.py:build", FEATURES, weights="w.pt")


def test_weights_beside_a_file(tmp_path, load_source):
    save_onnx(tmp_path / "m.onnx", [1, 2])
    with pytest.raises(InputError, match=r"weights only beside a file\.py:callable"):
        load_source("m.onnx", weights="w.pt")


def test_open_dimensions_are_named_with_the_way_out(tmp_path, load_source):
    save_onnx(tmp_path / "m.onnx", ["batch", "rows", 3])
    with pytest.raises(InputError, match=r"'x' leaves dimension 1 of its shape open(.|\n)*--input x=1,N,3"):
        load_source("m.onnx")


@pytest.mark.parametrize(
    ("shape", "declared", "said"),
    [
        ([1, 4], TensorSpec("x", (1, 5)), r"declared for input 'x' is \[1, 5\], the model's is \[1, 4\]"),
        ([1, 4], TensorSpec("y", (1, 4)), "has no input 'y'(.|\n)*one of x"),
        ([8, 4], None, r"\[8, 4\], whose first axis is not 1"),
        ([1, 4], TensorSpec("x", (1, 4, 1)), "declared for input 'x'"),
    ],
)
def test_declarations_that_do_not_fit(shape, declared, said, tmp_path, load_source):
    save_onnx(tmp_path / "m.onnx", shape)
    with pytest.raises(InputError, match=said):
        load_source("m.onnx", *([declared] if declared else []))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([TensorSpec("features", (10,))], r"write the shape as \[1, 10\] if the batch is missing"),
        ([TensorSpec("features", (1, 9))], r"fails on its inputs \(features: float32\[1, 9\]\)"),
        ([TensorSpec("features", (1, 10), "int64")], r"fails on its inputs \(features: int64"),
        ([TensorSpec("features", (1, 10), "float99")], "dtype 'float99'"),
        ([], "the shapes of its inputs are not known(.|\n)*--calibration"),
        ([FEATURES, FEATURES], "two inputs have the same name"),
        ([TensorSpec("features", (1, 0))], "sizes from 1 up"),
    ],
)
def test_torch_inputs_that_do_not_fit(inputs, said, linear, load_source):
    with pytest.raises(InputError, match=said):
        load_source("linear.py:build", *inputs)


@pytest.mark.parametrize("body", ["return 3", "return None", "return {'a': 1}"])
def test_a_callable_that_returns_no_model(body, tmp_path, load_source):
    (tmp_path / "m.py").write_text(f"def build():\n    {body}\n")
    with pytest.raises(InputError, match=r"m\.py:build returned \w+(.|\n)*an nn\.Module or a keras\.Model"):
        load_source("m.py:build", FEATURES)


def test_nan_for_a_real_sample(tmp_path, load_source):
    save_onnx(tmp_path / "m.onnx", [1, 2])
    loaded = load_source("m.onnx")  # log(0) of the probe is no one's fault
    with pytest.raises(InputError, match=r"m\.onnx: output 'y' is NaN"):
        loaded.run((np.full((1, 2), -1.0, np.float32),))


def test_missing_external_data(tmp_path, load_source):
    import onnx
    from onnx import TensorProto, helper

    weights = onnx.numpy_helper.from_array(np.ones((1, 400), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 400])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 400])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=100)
    first = load_source("m.onnx").model.digest
    data = bytearray((tmp_path / "m.data").read_bytes())
    data[:4] = np.float32(2).tobytes()
    (tmp_path / "m.data").write_bytes(data)
    assert load_source("m.onnx").model.digest != first
    (tmp_path / "m.data").unlink()
    with pytest.raises(InputError, match=r"keeps weights in m\.data, which is missing"):
        load_source("m.onnx")


def test_strings_are_no_inputs(tmp_path, load_source):
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [1, 2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="'x' has the dtype 'string'"):
        load_source("m.onnx")


def test_a_custom_keras_layer(tmp_path, load_source):
    import keras

    with quiet():
        keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][1] |= {"class_name": "Mine", "module": "elsewhere", "registered_name": "Mine"}
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(InputError, match=r"m\.keras cannot be read by Keras(.|\n)*file\.py:callable"):
        load_source("m.keras")
