"""Finding wheels for a board that no lock is known for: newest first, until one's libraries need no more than the board has."""

from __future__ import annotations

import email.parser
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import parse_wheel_filename

from edgepack.errors import InputError
from edgepack.lock import Platform, RuntimeLock, Wheel, version_tuple
from edgepack.ports import Progress
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.wheels import pip, store, symbols

_ATTEMPTS = 10


@dataclass(frozen=True)
class _Runtime:
    """package: its name for pip; numpy: bounds that its metadata leaves out."""

    package: str
    numpy: str = ""


# A lock is a runtime and numpy. What else their metadata asks for (protobuf, flatbuffers, sympy, …) serves tools beside the
# interpreter; docs/adr/0006-what-a-runtime-lock-holds.md says how that was found out.
RUNTIMES: Mapping[RuntimeName, _Runtime] = MappingProxyType(
    {
        "litert": _Runtime("ai-edge-litert"),
        "onnxruntime": _Runtime("onnxruntime"),
        "tflite-runtime": _Runtime("tflite-runtime", numpy="<2"),  # built for numpy 1: dies at import with 2
    }
)


@dataclass(frozen=True)
class _Found:
    wheel: Wheel
    needs: str
    numpy: str


def resolve(runtime: RuntimeName, wanted: RuntimeRange, platform: Platform, progress: Progress) -> RuntimeLock:
    """The newest wheels within `wanted` that really run on `platform`, downloaded and kept.

    Where the index has no numpy for the platform, the lock says that the board's system provides it.
    Raises InputError naming the platform and what each version tried would need, BoardError where the index is unreachable.
    """
    about = RUNTIMES[runtime]
    found = _newest_fitting(about.package, wanted.version, platform, progress)
    if isinstance(found, str):
        raise InputError(
            f"no version of {about.package} {wanted.version} runs on {platform}",
            expected=found,
            advice=f"use a newer system on the board, or widen runtimes.{runtime} in the profile",
        )
    system: tuple[str, ...]
    bounds = ",".join(part for part in (found.numpy, about.numpy) if part)
    numpy = _newest_fitting("numpy", bounds, platform, progress)
    if isinstance(numpy, str):
        progress.warn(f"no wheel of numpy{bounds} for {platform} ({numpy}): the board's system must provide it")
        wheels: tuple[Wheel, ...] = (found.wheel,)
        needs, system = found.needs, (f"numpy{bounds}",)
    else:
        wheels, system = (found.wheel, numpy.wheel), ()
        needs = max(found.needs, numpy.needs, key=version_tuple)
    return RuntimeLock(
        runtime=runtime,
        version=found.wheel.version,
        python=platform.python,
        machine=platform.machine,
        libc=platform.libc,
        needs_glibc=needs,
        wheels=wheels,
        system=system,
    )


def _newest_fitting(package: str, bounds: str, platform: Platform, progress: Progress) -> _Found | str:
    """The newest wheel that fits, or what each version tried would need."""
    tried: list[str] = []
    below = ""
    for _ in range(_ATTEMPTS):
        found = _fetch_newest(package, ",".join(part for part in (bounds, below) if part), platform, progress)
        if found is None:
            break
        if version_tuple(found.needs) <= version_tuple(platform.libc_version):
            return found
        tried.append(f"{found.wheel.version} needs glibc {found.needs}")
        below = f"<{found.wheel.version}"
    if not tried:
        return f"the index has no wheel for Python {platform.python} on {platform.machine} with {platform.libc}"
    return "; ".join(tried)


def _fetch_newest(package: str, bounds: str, platform: Platform, progress: Progress) -> _Found | None:
    with progress.step(f"looking for {package}{bounds} for {platform}"), store.aside() as folder:
        file = pip.download(f"{package}{bounds}", platform, folder)
        if file is None:
            return None
        _, version, _, _ = parse_wheel_filename(file.name)
        needs, numpy, size = symbols.needs_glibc(file), numpy_bounds(file, platform), file.stat().st_size
        wheel = Wheel(package, str(version), file.name, store.keep(file), size)
        return _Found(wheel, needs, numpy)


def numpy_bounds(wheel: Path, platform: Platform) -> str:
    """The range of numpy that a wheel's metadata asks for on that platform; empty where it asks for none."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
        metadata = email.parser.BytesHeaderParser().parsebytes(archive.read(name))
    environment = {"python_version": platform.python, "platform_machine": platform.machine, "sys_platform": "linux"}
    needs = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    ranges = SpecifierSet()
    for need in needs:
        if need.name == "numpy" and (need.marker is None or need.marker.evaluate({**environment, "extra": ""})):
            ranges &= need.specifier
    return str(ranges)
