"""What a source is, told from its name and its first bytes, before any framework is imported."""

from __future__ import annotations

import zipfile
from enum import StrEnum
from pathlib import Path

from edgepack.errors import InputError
from edgepack.runtimes.callables import is_reference


class Kind(StrEnum):
    """How a source has to be read."""

    ONNX = "ONNX model"
    TFLITE = "TFLite model"
    KERAS = "Keras model"
    SAVED_MODEL = "SavedModel folder"
    EXPORTED = "torch.export program"
    SCRIPT = "TorchScript file"
    CALLABLE = "callable"


_BY_SUFFIX = {
    ".onnx": Kind.ONNX,
    ".tflite": Kind.TFLITE,
    ".keras": Kind.KERAS,
    ".h5": Kind.KERAS,
    ".hdf5": Kind.KERAS,
    ".pt2": Kind.EXPORTED,
    ".pt": Kind.SCRIPT,
    ".pth": Kind.SCRIPT,
}
_LFS = b"version https://git-lfs.github.com/spec/"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
KNOWN = ".onnx .tflite .keras .h5 .pt2 .pt, a SavedModel folder, or file.py:callable"


def locate(source: str, folder: Path) -> tuple[Kind, Path]:
    """The kind of a source and its path (of the `.py` file for a callable).

    Raises InputError naming the file: missing, empty, a Git LFS pointer, not what its suffix says.
    """
    if is_reference(source):
        return Kind.CALLABLE, (folder / source.rpartition(":")[0]).absolute()
    if not source:
        raise InputError(
            "no model is named", expected=KNOWN, advice="name it, or write [model] source in edgepack.toml"
        )
    path = (folder / source).absolute()
    if path.is_dir():
        return _locate_folder(source, path)
    if not path.is_file():
        raise InputError(f"{source}: no such file ({path})", expected=KNOWN, advice="check the path")
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if path.suffix == ".py":
        raise InputError(
            f"{source} names no callable", expected="file.py:callable", advice=f"write {source}:build, for example"
        )
    if kind is None:
        raise InputError(f"{source}: the suffix {path.suffix!r} is not known", expected=KNOWN)
    check_bytes(source, path, kind)
    return kind, path


def _locate_folder(source: str, path: Path) -> tuple[Kind, Path]:
    if (path / "saved_model.pb").is_file():
        return Kind.SAVED_MODEL, path
    if (path / "keras_metadata.pb").is_file():
        raise InputError(f"{source}: the SavedModel has lost its saved_model.pb", advice="save it again")
    raise InputError(f"{source} is a folder without saved_model.pb or edgepack.toml", expected=KNOWN)


def check_bytes(source: str, path: Path, kind: Kind) -> None:
    """Raises InputError when the first bytes cannot be of that kind."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise InputError(f"{source} is empty", expected=f"a {kind}", advice="copy or export it again")
    if head.startswith(_LFS):
        raise InputError(
            f"{source} is a Git LFS pointer, not the file itself", advice="run `git lfs pull` where it lies"
        )
    if not _looks_like(head, path, kind):
        raise InputError(
            f"{source} is not a {kind}: its first bytes are {head[:8].hex(' ')}",
            expected=f"a {kind}, as its suffix {path.suffix} says",
            advice="export it again, or correct the suffix",
        )


def _looks_like(head: bytes, path: Path, kind: Kind) -> bool:
    match kind:
        case Kind.TFLITE:
            return head[4:8] == b"TFL3"
        case Kind.KERAS:
            return head.startswith(_HDF5) or (head.startswith(_ZIP) and zipfile.is_zipfile(path))
        case Kind.EXPORTED:
            return head.startswith(_ZIP) and zipfile.is_zipfile(path)
        case Kind.SCRIPT:
            return head.startswith((_ZIP, b"\x80"))  # a zip, or a pickle of before torch 1.6
        case Kind.ONNX:
            # A ModelProto's first fields are ir_version (varint, 0x08), or strings and messages (tags below 0x80).
            return head[0] & 0x07 in (0, 2) and head[0] < 0xB0
        case _:
            return True
