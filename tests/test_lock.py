from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import digest, lock
from edgepack.errors import InputError
from edgepack.lock import Platform, RuntimeLock, Wheel, version_tuple
from edgepack.protocol import Facts

LOCK = RuntimeLock(
    runtime="litert",
    version="2.3.0",
    python="3.11",
    machine="aarch64",
    libc="glibc",
    needs_glibc="2.34",
    wheels=(Wheel("numpy", "2.1.0", "numpy-2.1.0-cp311-cp311-manylinux_2_17_aarch64.whl", digest.of_bytes(b"x"), 1),),
    system=("libgomp1",),
)
BOOKWORM = Platform("3.11", "aarch64", "glibc", "2.36")


def test_a_lock_survives_writing_and_reading():
    assert lock.decode(digest.canonical_json(LOCK), "f") == LOCK
    assert LOCK.digest() == digest.of_bytes(digest.canonical_json(LOCK))


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"libc_version": "2.34"}, True),
        ({"libc_version": "2.33"}, False),
        ({"libc_version": "2.100"}, True),
        ({"libc_version": "2.4"}, False),
        ({"libc_version": ""}, False),
        ({"python": "3.12"}, False),
        ({"machine": "armv7l"}, False),
        ({"libc": "musl"}, False),
    ],
)
def test_a_lock_fits_its_python_machine_and_a_c_library_that_is_new_enough(change, fits):
    platform = Platform(**{**msgspec.structs.asdict(BOOKWORM), **change})
    assert LOCK.fits(platform) is fits


@given(st.lists(st.integers(0, 99), min_size=1, max_size=3), st.lists(st.integers(0, 99), min_size=1, max_size=3))
def test_versions_compare_by_number(one, other):
    texts = [".".join(map(str, numbers)) for numbers in (one, other)]
    assert (version_tuple(texts[0]) < version_tuple(texts[1])) is (one < other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "edgepack.lock/2"}, "lock/2"),
        ({"runtime": "tensorrt"}, "tensorrt"),
        ({"wheels": [{**msgspec.to_builtins(LOCK.wheels[0]), "filename": "../x.whl"}]}, r"\.\./x\.whl"),
        ({"wheels": [{**msgspec.to_builtins(LOCK.wheels[0]), "filename": "x.tar.gz"}]}, r"x\.tar\.gz"),
        ({"wheels": [{**msgspec.to_builtins(LOCK.wheels[0]), "filename": "-rf.whl"}]}, r"-rf\.whl"),
        ({"wheels": [{**msgspec.to_builtins(LOCK.wheels[0]), "digest": "sha256:../x"}]}, "cannot be a file"),
        ({"wheels": [{**msgspec.to_builtins(LOCK.wheels[0]), "size": -1}]}, "cannot be a file"),
        ({"wheels": 3}, "wheels"),
    ],
)
def test_a_wrong_lock_is_refused(change, message):
    data = digest.canonical_json({**msgspec.to_builtins(LOCK), **change})
    with pytest.raises(InputError, match=message) as caught:
        lock.decode(data, "THE FILE")
    assert caught.value.what.startswith("THE FILE: ")


@given(st.binary())
def test_bytes_that_are_no_lock_are_refused(data):
    with pytest.raises(InputError):
        lock.decode(data, "f")


@pytest.mark.parametrize(
    ("machine", "bits", "wheels"), [("aarch64", 64, "aarch64"), ("aarch64", 32, "armv7l"), ("armv7l", 32, "armv7l")]
)
def test_a_32_bit_python_below_a_64_bit_kernel_needs_32_bit_wheels(machine, bits, wheels):
    facts = Facts(
        protocol=1, hostname="b", machine=machine, bits=bits, python="3.11.2", implementation="CPython", libc="glibc",
        libc_version="2.36", os="", kernel="", cpu_model="", cores=4, memory_kb=1, disk_free=1, filesystem="ext4",
    )  # fmt: skip
    assert facts.platform() == Platform("3.11", wheels, "glibc", "2.36")
