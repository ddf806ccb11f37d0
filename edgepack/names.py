"""Names that go into files, URLs and remote folders, and the grammar of variant names.

NAME.PROFILE.PRECISION[-sNN][-qat].FORMAT      kws.rpi4.w8a8-s50.tflite
"""

from __future__ import annotations

import re
from typing import Literal, NewType

from packaging.version import InvalidVersion, Version

from edgepack.errors import InputError

VariantId = NewType("VariantId", str)
Precision = Literal["fp32", "fp16", "w8", "w8d", "w8a8", "w8a16", "w4", "mixed"]
FileFormat = Literal["tflite", "onnx"]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


def check_name(name: str, what: str = "name") -> str:
    """Return `name` if it may become part of a path on a board. Raises InputError otherwise."""
    if not NAME.fullmatch(name) or ".." in name:
        raise InputError(
            f"{what} {name!r} cannot be used",
            expected="up to 64 lower-case letters, digits, '.', '_' or '-', starting with a letter or digit, no '..'",
            advice=f"choose another {what}, for example {suggest_name(name)!r}",
        )
    return name


def check_version(version: str) -> str:
    """Return `version` if it is a semantic version (semver.org 2.0.0). Raises InputError otherwise."""
    if not _SEMVER.fullmatch(version):
        raise InputError(
            f"version {version!r} is not a semantic version", expected="MAJOR.MINOR.PATCH, for example 1.2.0"
        )
    return version


def version_key(version: str) -> Version:
    """A sortable key of a release's version."""
    try:
        return Version(version)
    except InvalidVersion:
        return Version(version.split("-")[0].split("+")[0] + ".dev0")


def variant_id(name: str, profile: str, precision: Precision, sparsity: float, format: FileFormat) -> VariantId:
    pruned = f"-s{round(sparsity * 100):02d}" if sparsity else ""
    return VariantId(f"{name}.{profile}.{precision}{pruned}.{format}")


def suggest_name(name: str) -> str:
    """The nearest name that `check_name` allows."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", name.lower())).strip("-._")[:64] or "model"
