"""Keras models (`.keras`, legacy `.h5`, what a callable returns) and TensorFlow SavedModels."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import InputError, UsageError
from edgepack.model import Format, Model, Signature, TensorSpec
from edgepack.ports import KerasNative, Loaded
from edgepack.runtimes import foreign
from edgepack.runtimes.torch_outputs import numbered
from edgepack.samples import Arrays
from edgepack.sources import asking
from edgepack.sources.signatures import Specs, check_declared, settle

_PURPOSE = "reading a Keras model"
_ASK_KERAS = "load it where its custom layers are known: file.py:callable that returns the keras.Model"


def import_keras() -> Any:
    """Keras on its TensorFlow backend, the one that converts to TFLite. Raises UsageError under another backend."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    foreign.import_framework("tensorflow", "keras", _PURPOSE)
    keras = foreign.import_framework("keras", "keras", _PURPOSE)
    if keras.config.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on the backend {keras.config.backend()!r}",
            expected="its tensorflow backend",
            advice="set KERAS_BACKEND=tensorflow",
        )
    return keras


def from_file(source: str, path: Path, declared: Specs) -> Loaded:
    """A `.keras` or `.h5` file, of Keras 3 or 2."""
    keras = import_keras()
    with foreign.reading(f"{source} cannot be read by Keras {keras.__version__}", advice=_ASK_KERAS):
        model = keras.models.load_model(path, compile=False)
    return _load(source, model, digest.of_file(path), declared)


def from_model(source: str, model: Any, code: Digest, declared: Specs) -> Loaded:
    """A `keras.Model` that the user's code made."""
    import_keras()
    return _load(source, model, None, declared, code)


def from_saved_model(source: str, path: Path, declared: Specs) -> Loaded:
    """A TensorFlow SavedModel, asked through its serving signature."""
    tensorflow = foreign.import_framework("tensorflow", "keras", "reading a SavedModel")
    with foreign.reading(f"{source} cannot be read as a SavedModel", advice="save it again"):
        module = _load_without_optimizer(tensorflow, path)
    function = serving_function(source, module)
    keywords = function.structured_input_signature[1]
    found = tuple(TensorSpec(name, *_tensor(spec)) for name, spec in sorted(keywords.items()))
    inputs = settle(source, found, declared)
    names = sorted(function.structured_outputs)

    def ask(arrays: Arrays) -> list[Any]:
        feed = {spec.name: tensorflow.constant(array) for spec, array in zip(inputs, arrays, strict=True)}
        results = function(**feed)
        return [results[name].numpy() for name in names]

    # The function lives as long as the object it was loaded with: KerasNative keeps that.
    return _finish(source, KerasNative(module, path), digest.of_tree(path), inputs, names, ask)


def _load_without_optimizer(tensorflow: Any, path: Path) -> Any:
    """A SavedModel without its optimizer's state: what Keras 2 wrote of it stops Keras 3, and nobody asks it."""
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        for node in graph.object_graph_def.nodes:
            del node.slot_variables[:]
    with tempfile.TemporaryDirectory() as folder:
        for part in path.iterdir():
            if part.name != "saved_model.pb":
                (Path(folder) / part.name).symlink_to(part)
        (Path(folder) / "saved_model.pb").write_bytes(saved.SerializeToString())
        return tensorflow.saved_model.load(folder)


def load_weights(model: Any, path: Path, reference: str) -> None:
    """Load a `.weights.h5`, `.keras` or `.h5` into a built model. Raises InputError naming the file."""
    if not path.is_file():
        raise InputError(f"{reference}: no such file ({path})", advice="check [model] weights")
    with foreign.reading(
        f"{reference} does not fit the model", advice="save the weights with model.save_weights('x.weights.h5')"
    ):
        model.load_weights(path)


def serving_function(source: str, module: Any) -> Any:
    """The concrete function of the signature `serving_default`, or of the only one. Raises InputError otherwise."""
    signatures = dict(module.signatures)
    if "serving_default" in signatures:
        return signatures["serving_default"]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    raise InputError(
        f"{source} has no signature 'serving_default'; it has {', '.join(sorted(signatures)) or 'none'}",
        advice="export it with model.export(path), or with one signature",
    )


def _load(source: str, model: Any, identity: Digest | None, declared: Specs, code: Digest | None = None) -> Loaded:
    import keras

    inputs = _inputs(source, model, declared)

    structure = getattr(model, "input", None) if getattr(model, "inputs", None) else None

    def ask(arrays: Arrays) -> list[Any]:
        given = arrays[0] if len(arrays) == 1 else list(arrays)
        packed = given if structure is None else keras.tree.pack_sequence_as(structure, list(arrays))
        result = model(packed, training=False)
        return [keras.ops.convert_to_numpy(value) for value in keras.tree.flatten(result)]

    with foreign.reading(f"{source} fails on its inputs ({', '.join(map(str, inputs))})"):
        count = len(ask(asking.zeros(inputs)))
    names = _output_names(model, count)
    if identity is None:
        identity = digest.of_value([code, _weights_digest(model)])
    return _finish(source, KerasNative(model), identity, inputs, names, ask)


def _finish(
    source: str,
    native: KerasNative,
    identity: Digest,
    inputs: Specs,
    names: Sequence[str],
    ask: Callable[[Arrays], Sequence[Any]],
) -> Loaded:
    with foreign.reading(f"{source} fails on its inputs ({', '.join(map(str, inputs))})"):
        outputs = asking.describe(names, ask(asking.zeros(inputs)))
    model = Model(
        source=source,
        format=Format.KERAS,
        digest=identity,
        signature=Signature(inputs, outputs),
        frameworks=foreign.versions("keras", "tensorflow-cpu"),
    )
    return Loaded(model, native, asking.checked(source, inputs, names, ask))


def _inputs(source: str, model: Any, declared: Specs) -> Specs:
    """What the model says of its inputs; a model that was never built says nothing, then what was declared."""
    known = getattr(model, "inputs", None)
    if not known:
        if not declared:
            raise InputError(
                f"{source}: the Keras model was never built, so the shapes of its inputs are not known",
                advice='say them with --input x=1,… or [model] inputs = [{ name = "x", shape = [1, …] }]',
            )
        return check_declared(source, declared)
    return settle(source, tuple(TensorSpec(_name(tensor), *_tensor(tensor)) for tensor in known), declared)


def _name(tensor: Any) -> str:
    return str(tensor.name).split(":")[0]


def _tensor(spec: Any) -> tuple[tuple[int | None, ...], str]:
    if spec.shape is None or getattr(spec.shape, "rank", 0) is None:
        raise InputError(f"input {spec.name!r} has no rank", advice="export the model with fixed shapes")
    dtype = spec.dtype if isinstance(spec.dtype, str) else spec.dtype.name
    return tuple(None if size is None else int(size) for size in spec.shape), dtype


def _output_names(model: Any, count: int) -> list[str]:
    names = [str(name) for name in getattr(model, "output_names", None) or ()]
    return names if len(names) == count and len(set(names)) == count else numbered(count)


def _weights_digest(model: Any) -> Digest:
    hasher = hashlib.sha256()
    for weight in model.weights:
        hasher.update(f"{weight.path}{weight.dtype}{tuple(weight.shape)}".encode())
        hasher.update(weight.numpy().tobytes())
    return Digest("sha256:" + hasher.hexdigest())
