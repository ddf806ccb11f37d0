"""Names that go into files, URLs and remote folders, and the grammar of variant names.

NAME.PROFILE.PRECISION[-sNN][-qat].FORMAT      kws.rpi4.w8a8-s50.tflite
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, NewType, cast, get_args

from edgepack.errors import InputError

VariantId = NewType("VariantId", str)
Precision = Literal["fp32", "fp16", "w8", "w8d", "w8a8", "w8a16", "w4", "mixed"]
FileFormat = Literal["tflite", "onnx"]
VersionKey = tuple[int, int, int, tuple[tuple[int, int, str], ...]]

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_SEMVER = re.compile(  # semver.org 2.0.0, its own regular expression
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(?:-((?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(?:\.(?:0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_LONGEST_VERSION = 64


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
    _match_version(version)
    return version


def version_key(version: str) -> VersionKey:
    """A sortable key of a release's version, in the order of semver.org 2.0.0 §11: a pre-release comes before its release,
    build metadata does not count. Raises InputError where it is no semantic version.
    """
    major, minor, patch, before = _match_version(version).groups()
    parts = before.split(".") if before else []
    identifiers = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)
    return int(major), int(minor), int(patch), identifiers or ((2, 0, ""),)


def _match_version(version: str) -> re.Match[str]:
    match = _SEMVER.fullmatch(version)
    if not match or len(version) > _LONGEST_VERSION:
        raise InputError(
            f"version {version[:_LONGEST_VERSION]!r} is not a semantic version",
            expected=f"MAJOR.MINOR.PATCH, for example 1.2.0, of at most {_LONGEST_VERSION} characters",
        )
    return match


def variant_id(
    name: str, profile: str, precision: Precision, sparsity: float, format: FileFormat, *, qat: bool = False
) -> VariantId:
    pruned = f"-s{round(sparsity * 100):02d}" if sparsity else ""
    return VariantId(f"{name}.{profile}.{precision}{pruned}{'-qat' if qat else ''}.{format}")


class Parts(NamedTuple):
    profile: str
    precision: Precision


def parts_of(id: str, name: str) -> Parts | None:
    """What a variant's id says of it, given its bundle's name; None where it is none of that bundle's."""
    found = re.fullmatch(re.escape(name) + r"\.(.+)\.([a-z0-9]+)(-s[0-9]{2})?(-qat)?\.(onnx|tflite)", id)
    if found is None or found[2] not in get_args(Precision):
        return None
    return Parts(found[1], cast(Precision, found[2]))


def suggest_name(name: str) -> str:
    """The nearest name that `check_name` allows."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", name.lower())).strip("-._")[:64] or "model"
