"""A Keras model or SavedModel as one TensorFlow function of the signature's inputs, every size fixed.

Recurrent layers only convert when they were traced with a fixed batch: TensorList operators want a static element shape.
"""

from __future__ import annotations

from typing import Any

from edgepack.errors import BugError
from edgepack.model import Signature
from edgepack.ports import KerasNative


def input_signature(signature: Signature) -> list[Any]:
    """One `tf.TensorSpec` an input."""
    import tensorflow

    return [tensorflow.TensorSpec(spec.shape, spec.dtype, name=f"input_{i}") for i, spec in enumerate(signature.inputs)]


def as_function(native: KerasNative, signature: Signature) -> Any:
    """A `tf.function` of the inputs in order, that returns the list of outputs in order."""
    import tensorflow

    call = _saved(native, signature) if native.saved is not None else _keras(native)
    return tensorflow.function(call, input_signature=input_signature(signature), autograph=False)


def with_fixed_inputs(native: KerasNative, signature: Signature, name: str) -> Any:
    """A `keras.Model` around the user's, whose inputs have the signature's shapes."""
    import keras

    if native.saved is not None:
        raise BugError("a SavedModel has no Keras layers")
    inputs = [
        keras.Input(batch_shape=spec.shape, dtype=spec.dtype, name=f"input_{i}")
        for i, spec in enumerate(signature.inputs)
    ]
    return keras.Model(inputs, _keras(native)(*inputs), name=name)


def _keras(native: KerasNative) -> Any:
    import keras

    model = native.model
    structure = getattr(model, "input", None)

    def call(*arrays: Any) -> list[Any]:
        given = arrays[0] if len(arrays) == 1 else list(arrays)
        packed = given if structure is None else keras.tree.pack_sequence_as(structure, list(arrays))
        return list(keras.tree.flatten(model(packed, training=False)))

    return call


def _saved(native: KerasNative, signature: Signature) -> Any:
    function = native.model.signatures["serving_default"]

    def call(*arrays: Any) -> list[Any]:
        results = function(**{spec.name: array for spec, array in zip(signature.inputs, arrays, strict=True)})
        return [results[spec.name] for spec in signature.outputs]

    return call
