"""A class of device and what is wanted there. One default an option; unknown keys are errors; every value has an origin."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from edgepack import digest, documents
from edgepack.digest import Digest
from edgepack.documents import Origin
from edgepack.errors import InputError
from edgepack.names import FileFormat, Precision

SCHEMA = "edgepack.profile/1"
MAX_LAYERS = 3
_WHOLE = ("runtimes",)  # their order means preference
_VERSION = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}")
RuntimeName = Literal["litert", "onnxruntime", "tflite-runtime"]


class System(Struct, frozen=True, forbid_unknown_fields=True):
    """An operating system that such devices run: which wheels are locked at build time.

    title: for people; python, glibc: MAJOR.MINOR of what it comes with
    """

    title: str
    python: str
    glibc: str


class Device(Struct, frozen=True, forbid_unknown_fields=True):
    """cpu: QEMU's and GCC's name of the core; isa: extensions beyond the machine's base; machine: as `uname -m` prints it

    cores: how many; memory_mb: what the system sees of it; systems: what such devices run
    """

    machine: str
    cpu: str
    cores: int
    memory_mb: int
    isa: tuple[str, ...] = ()
    systems: tuple[System, ...] = ()


class RuntimeRange(Struct, frozen=True, forbid_unknown_fields=True):
    """version: a PEP 440 range; provider: `wheels` pushed by edgepack, or the board's own `system` packages."""

    version: str
    provider: Literal["wheels", "system"] = "wheels"

    def allows(self, version: str) -> bool:
        return SpecifierSet(self.version).contains(version, prereleases=True)


class Compress(Struct, frozen=True, forbid_unknown_fields=True):
    """precisions: what is tried, in each format; sparsities: shares of channels to prune, above 0 with training data only

    multiple: layers keep channels in multiples of this, which the kernels of the device compute at a time
    """

    precisions: tuple[Precision, ...] = ("w8a8", "w8d", "fp16", "fp32")
    sparsities: tuple[float, ...] = (0.0,)
    multiple: int = 8


class Budget(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits a variant must keep; None is no limit.

    max_drop: of the metric, in its own unit; max_size_mb: of the model file
    max_p90_ms, max_memory_mb: checked where they were measured
    """

    max_drop: float | None = 0.01
    max_size_mb: float | None = None
    max_p90_ms: float | None = None
    max_memory_mb: float | None = None


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """runtimes: what may run a model there, in order of preference; extends: the profile whose values lie under this one's"""

    schema: Literal["edgepack.profile/1"]
    title: str
    device: Device
    runtimes: dict[RuntimeName, RuntimeRange]
    compress: Compress = field(default_factory=Compress)
    budget: Budget = field(default_factory=Budget)
    extends: str = ""

    def formats(self) -> tuple[FileFormat, ...]:
        """The formats that the profile's runtimes open, in order of preference."""
        return tuple(dict.fromkeys(opens(runtime) for runtime in self.runtimes))

    def digest(self) -> Digest:
        return digest.of_value(self)


class Resolved(Struct, frozen=True):
    name: str
    profile: Profile
    origins: tuple[Origin, ...]


def opens(runtime: RuntimeName) -> FileFormat:
    return "onnx" if runtime == "onnxruntime" else "tflite"


def resolve(name: str, texts: dict[str, str]) -> Resolved:
    """The profile `name` out of `texts` (name → TOML), what it extends merged under it.

    Raises InputError for an unknown key (with a suggestion), a wrong value, an unknown or too deep `extends`, a bad range.
    """
    layers = _layers(name, texts)
    merged: dict[str, Any] = {}
    for _, tables in reversed(layers):
        merged = documents.merge(merged, tables, whole=_WHOLE)
    profile = documents.convert(merged, Profile, f"{name}.toml")
    _check(name, profile)
    return Resolved(name, profile, tuple(documents.origins(msgspec.to_builtins(profile), layers, whole=_WHOLE)))


def _layers(name: str, texts: dict[str, str]) -> list[documents.Layer]:
    """The profile's own tables, then those it extends. A shipped profile extends one; a user's own may extend such a one."""
    layers: list[documents.Layer] = []
    wanted: str = name
    while wanted:
        if wanted not in texts:
            raise InputError(
                f"{layers[-1][0]}: extends {wanted!r}, which does not exist",
                expected=f"one of {', '.join(sorted(texts))}",
            )
        if len(layers) == MAX_LAYERS:
            raise InputError(
                f"{name}.toml: extends more than {MAX_LAYERS - 1} levels ({' → '.join(layer for layer, _ in layers)} → {wanted})",
                advice="extend one of the profiles further along directly",
            )
        layers.append((f"{wanted}.toml", _tables(wanted, texts)))
        wanted = layers[-1][1].get("extends", "")
        if not isinstance(wanted, str):
            raise InputError(f"{layers[-1][0]}: extends: expected the name of one profile, got {wanted!r}")
    return layers


def _tables(name: str, texts: dict[str, str]) -> dict[str, Any]:
    raw = documents.parse_toml(texts[name], f"{name}.toml")
    runtimes = raw.get("runtimes")
    if isinstance(runtimes, dict):  # `litert = ">=2.1"` is short for a table with only a version
        raw["runtimes"] = {
            key: {"version": value} if isinstance(value, str) else value for key, value in runtimes.items()
        }
    return raw


def _check(name: str, profile: Profile) -> None:
    for runtime, wanted in profile.runtimes.items():
        try:
            SpecifierSet(wanted.version)
        except InvalidSpecifier:
            raise InputError(
                f"{name}.toml: runtimes.{runtime}: {wanted.version!r} is no version range",
                expected="for example '>=2.1,<3'",
            ) from None
    if not profile.runtimes:
        raise InputError(f"{name}.toml: runtimes: none", expected="at least one, for example litert = '>=2.1,<3'")
    device = profile.device
    if device.cores < 1 or device.memory_mb < 1:
        raise InputError(
            f"{name}.toml: device: {device.cores} cores and {device.memory_mb} MB", expected="at least one"
        )
    for system in device.systems:
        if not (_VERSION.fullmatch(system.python) and _VERSION.fullmatch(system.glibc)):
            raise InputError(
                f"{name}.toml: device.systems: Python {system.python!r} with glibc {system.glibc!r}",
                expected="MAJOR.MINOR of both, for example '3.11' and '2.36'",
            )
    for key, limit in msgspec.structs.asdict(profile.budget).items():
        if limit is not None and limit < 0:
            raise InputError(f"{name}.toml: budget.{key}: {limit} is negative", advice="leave the key out for no limit")
    if profile.compress.multiple < 1:
        raise InputError(f"{name}.toml: compress.multiple: {profile.compress.multiple}", expected="at least 1")
    for sparsity in profile.compress.sparsities:
        if not 0 <= sparsity < 1:
            raise InputError(
                f"{name}.toml: compress.sparsities: {sparsity} is out of range", expected="0 ≤ sparsity < 1"
            )
