"""A trained model as given: where it came from, its digest, its signature."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from edgepack.digest import Digest
from edgepack.names import Precision


class Format(StrEnum):
    """What a model is written in. The last two are what boards run."""

    TORCH = "torch"
    KERAS = "keras"
    ONNX = "onnx"
    TFLITE = "tflite"


class TensorSpec(Struct, frozen=True, forbid_unknown_fields=True):
    """One input or output.

    shape: sizes with the batch axis first; None where the model leaves a size open
    dtype: numpy's name (`float32`, `int8`, `int64`, …)
    layout: `NHWC`, `NCHW`, … where it is known, else empty
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    layout: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if n is None else str(n) for n in self.shape)}]"


class Signature(Struct, frozen=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Preprocessing(Struct, frozen=True, forbid_unknown_fields=True):
    """How a raw sample becomes the model's input: `(x * scale - mean) / std`, then the layout change.

    mean, std: one value, or one a channel (the raw sample's last axis)
    layout: empty, or `NHWC->NCHW`
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str = ""


class Model(Struct, frozen=True, kw_only=True):
    """A trained model.

    source: as the user named it, for messages only
    digest: of the file, folder or (for `file.py:callable`) of the code file and the weights
    frameworks: versions that read it, sorted by name, as (name, version)
    precision: what the file computes in already; anything but fp32 is packed as it is
    """

    source: str
    format: Format
    digest: Digest
    signature: Signature
    frameworks: tuple[tuple[str, str], ...] = ()
    precision: Precision = "fp32"
