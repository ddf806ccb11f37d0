"""The locks that are shipped: whole, without addresses, and enough to run."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile

import pytest

from edgepack import digest, lock
from edgepack.catalog import load_profiles
from edgepack.home import shipped
from edgepack.lock import Platform, version_tuple
from edgepack.wheels import fetch, lock_for, shipped_locks
from edgepack.wheels.symbols import needs_glibc

FILES = sorted((shipped("profiles") / "locks").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_shipped_lock_is_canonical_and_names_no_address(path):
    data = path.read_bytes()
    one = lock.decode(data, str(path))
    assert digest.canonical_json(one) == data
    assert path.stem == f"{one.runtime}-cp{one.python.replace('.', '')}-{one.machine}"
    assert b"://" not in data
    assert {wheel.name for wheel in one.wheels} - {"numpy"} == {
        {"litert": "ai-edge-litert"}.get(one.runtime, one.runtime)
    }
    assert ("numpy" in {wheel.name for wheel in one.wheels}) is not bool(one.system)
    assert version_tuple(one.needs_glibc) >= (2, 17)


def test_whatever_a_profile_may_build_for_is_locked(heard, unreachable):
    for resolved in load_profiles():
        one = resolved.profile
        for system in one.device.systems:
            place = Platform(system.python, one.device.machine, "glibc", system.glibc)
            for runtime, wanted in one.runtimes.items():
                if wanted.provider == "wheels":
                    assert lock_for(runtime, wanted, place, heard).runtime == runtime


def test_the_older_systems_that_are_promised_are_served(heard, unreachable):
    bullseye = Platform("3.9", "aarch64", "glibc", "2.31")
    profile = next(r.profile for r in load_profiles() if r.name == "rpi4")
    found = {
        runtime: lock_for(runtime, wanted, bullseye, heard).version for runtime, wanted in profile.runtimes.items()
    }
    assert found == {"litert": "2.1.0", "onnxruntime": "1.19.2"}


IMPORTS = {
    "litert": "ai_edge_litert.interpreter",
    "onnxruntime": "onnxruntime",
    "tflite-runtime": "tflite_runtime.interpreter",
}
HERE = Platform(f"{sys.version_info[0]}.{sys.version_info[1]}", platform.machine(), *platform.libc_ver())


@pytest.mark.network
@pytest.mark.parametrize("one", [one for one in shipped_locks() if one.fits(HERE)], ids=lambda one: one.runtime)
def test_the_locked_wheels_alone_are_enough_to_run(one, heard, tmp_path):
    """What their metadata asks for beside numpy (protobuf, flatbuffers, …) is not there, and not missed."""
    paths = fetch(one, heard)
    needs = {needs_glibc(path) for path in paths}
    assert max(needs, key=version_tuple) == one.needs_glibc
    for path in paths:
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(tmp_path / "site")
    code = f"import sys; sys.path.append({str(tmp_path / 'site')!r}); import {IMPORTS[one.runtime]} as it; print(it.__file__)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path / "site"))
