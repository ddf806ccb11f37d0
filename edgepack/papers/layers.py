"""What quantization did, layer by layer: which tricks were kept, how far each layer is from the float file's."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgepack import digest
from edgepack.errors import InputError
from edgepack.variant import Quantizing

LAYERS = "application/vnd.edgepack.layers.v1+json"


def render_layers(quantized: Sequence[Quantizing]) -> bytes:
    return digest.canonical_json(tuple(quantized))


def read_layers(data: bytes, file: str) -> tuple[Quantizing, ...]:
    """Raises InputError naming `file` where it is no such document."""
    try:
        return msgspec.json.decode(data, type=tuple[Quantizing, ...])
    except msgspec.MsgspecError as error:
        raise InputError(f"{file}: its report on layers cannot be read: {error}") from error
