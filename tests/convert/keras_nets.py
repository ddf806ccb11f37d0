"""Models as users bring them: `keras_nets.py:cnn`. Weights are drawn from a seed, batch statistics are not the initial ones."""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np

L = keras.layers


def seeded(build: Callable[[], keras.Model]) -> Callable[[], keras.Model]:
    """Layers draw their seeds when they are made."""

    @functools.wraps(build)
    def run() -> keras.Model:
        keras.utils.set_random_seed(0)
        return build()

    return run


def _model(shape: tuple[int, ...], *layers: keras.layers.Layer) -> keras.Model:
    model = keras.Sequential([keras.Input(shape, name="x"), *layers])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return model


@seeded
def cnn() -> keras.Model:
    return _model((8, 8, 1), L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU(), L.Flatten(), L.Dense(5))


@seeded
def mobilenet() -> keras.Model:
    return _model(
        (16, 16, 3),
        *(L.Conv2D(8, 3, 2, padding="same"), L.BatchNormalization(), L.ReLU(6.0)),
        *(L.DepthwiseConv2D(3, padding="same"), L.BatchNormalization(), L.ReLU(6.0)),
        *(L.Conv2D(16, 1), L.GlobalAveragePooling2D(), L.Dense(10, activation="softmax")),
    )


@seeded
def lstm() -> keras.Model:
    return _model((12, 6), L.LSTM(8), L.Dense(5))


@seeded
def gru() -> keras.Model:
    return _model((12, 6), L.GRU(8, return_sequences=True), L.Dense(5))


@seeded
def transformer() -> keras.Model:
    x = keras.Input((12, 16), name="x")
    attended = L.LayerNormalization()(x + L.MultiHeadAttention(2, 8)(x, x))
    return keras.Model(x, L.Dense(5)(L.GlobalAveragePooling1D()(attended)))


@seeded
def linear() -> keras.Model:
    return _model((10,), L.Dense(1))


@seeded
def two_inputs() -> keras.Model:
    """Inputs and outputs whose names, read as numbers or as text, sort in another order than the model has them."""
    first, second = keras.Input((6,), name="input_2"), keras.Input((4,), name="input_1")
    joined = L.Concatenate()([first, second])
    return keras.Model([first, second], [L.Dense(3, name="wide")(joined), L.Dense(2, name="narrow")(joined)])
