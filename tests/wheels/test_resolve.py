"""With the real pip against an index of made-up wheels."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import BoardError, BugError, InputError
from edgepack.lock import Platform
from edgepack.profile import RuntimeRange
from edgepack.wheels import lock_for, shipped_locks
from edgepack.wheels.pip import platform_tags
from edgepack.wheels.resolve import numpy_bounds, resolve

BULLSEYE = Platform("3.11", "riscv64", "glibc", "2.31")
LITERT = RuntimeRange(">=2.1,<3")
TAG = "cp311-cp311-manylinux_2_27_riscv64"


def versions(lock) -> list[str]:
    return [f"{wheel.name} {wheel.version}" for wheel in lock.wheels]


def test_a_wheel_that_needs_more_than_its_tag_says_is_passed_over(index, heard):
    index.add("ai-edge-litert", "2.3.0", TAG, "2.34", requires=["numpy>=1.23"])
    index.add("ai-edge-litert", "2.2.0", TAG, "2.17", "2.32", requires=["numpy>=1.23"])
    chosen = index.add("ai-edge-litert", "2.1.0", TAG, "2.30", "2.17", requires=["numpy>=1.23"])
    index.add("ai-edge-litert", "2.0.0", TAG, "2.17")
    index.add("ai-edge-litert", "3.0.0", TAG, "2.17")
    index.add("numpy", "2.2.0", TAG, "2.31")
    lock = resolve("litert", LITERT, BULLSEYE, heard)
    assert versions(lock) == ["ai-edge-litert 2.1.0", "numpy 2.2.0"]
    assert (lock.needs_glibc, lock.version, lock.system) == ("2.31", "2.1.0", ())
    assert lock.wheels[0].size == chosen.stat().st_size
    assert lock.fits(BULLSEYE)


def test_a_wheel_that_needs_less_than_its_tag_says_is_taken(index, heard):
    index.add("tflite-runtime", "2.14.0", "cp311-cp311-manylinux_2_34_riscv64", "2.27", requires=["numpy>=1.23.2"])
    index.add("numpy", "2.2.0", TAG, "2.17")
    index.add("numpy", "1.26.4", TAG, "2.17")
    lock = resolve("tflite-runtime", RuntimeRange(">=2.13"), BULLSEYE, heard)
    assert versions(lock) == ["tflite-runtime 2.14.0", "numpy 1.26.4"]  # built for numpy 1, says nothing of it
    assert lock.needs_glibc == "2.27"


def test_of_one_version_the_wheel_with_the_modest_tag_is_tried(index, heard):
    index.add("onnxruntime", "1.20.0", "cp311-cp311-manylinux_2_34_riscv64", "2.34")
    index.add("onnxruntime", "1.20.0", "cp311-cp311-manylinux_2_28_riscv64", "2.28")
    index.add("numpy", "2.2.0", TAG, "2.17")
    assert resolve("onnxruntime", RuntimeRange(">=1.19"), BULLSEYE, heard).needs_glibc == "2.28"


def test_nothing_that_runs_says_what_each_would_need(index, heard):
    index.add("ai-edge-litert", "2.3.0", TAG, "2.34")
    index.add("ai-edge-litert", "2.2.0", TAG, "2.33")
    with pytest.raises(InputError) as caught:
        resolve("litert", LITERT, BULLSEYE, heard)
    assert str(BULLSEYE) in caught.value.what
    assert "2.3.0 needs glibc 2.34; 2.2.0 needs glibc 2.33" in caught.value.expected
    assert "runtimes.litert" in caught.value.advice


def test_nothing_for_that_python_and_machine_says_so(index, heard):
    index.add("ai-edge-litert", "2.3.0", "cp312-cp312-manylinux_2_27_riscv64", "2.17")
    index.add("ai-edge-litert", "2.3.0", "cp311-cp311-manylinux_2_27_aarch64", "2.17")
    with pytest.raises(InputError) as caught:
        resolve("litert", LITERT, BULLSEYE, heard)
    assert "no wheel for Python 3.11 on riscv64" in caught.value.expected


def test_numpy_comes_from_the_system_where_no_wheel_exists_and_that_is_said(index, heard):
    index.add("tflite-runtime", "2.14.0", "cp311-cp311-manylinux_2_34_riscv64", "2.27", requires=["numpy >=1.23.2"])
    lock = resolve("tflite-runtime", RuntimeRange(">=2.13"), BULLSEYE, heard)
    assert versions(lock) == ["tflite-runtime 2.14.0"]
    assert lock.system == ("numpy>=1.23.2,<2",)
    assert "system must provide it" in heard.warnings[0]


def test_the_range_of_numpy_is_that_of_the_boards_python(index):
    wheel = index.add(
        "onnxruntime", "1.0.0", TAG,
        requires=["numpy>=1.21", "numpy<2 ; python_version < '3.12'", "numpy>=2 ; python_version >= '3.12'",
                  "numpy<1 ; extra == 'old'", "sympy"],
    )  # fmt: skip
    assert numpy_bounds(wheel, BULLSEYE) == "<2,>=1.21"
    assert numpy_bounds(wheel, Platform("3.13", "riscv64", "glibc", "2.41")) == ">=1.21,>=2"


def test_an_index_that_cannot_be_reached_is_not_an_index_without_it(unreachable, heard):
    with pytest.raises(BoardError) as caught:
        resolve("litert", LITERT, BULLSEYE, heard)
    assert "ai-edge-litert" in caught.value.what
    assert "pip config list" in caught.value.advice
    assert "://" not in str(caught.value)


def test_an_index_that_fails_is_not_an_index_that_has_no_such_package(answers, heard):
    with pytest.raises({404: InputError, 503: BoardError}[answers], match="ai-edge-litert"):
        resolve("litert", LITERT, BULLSEYE, heard)


def test_what_was_found_once_is_known_without_an_index(index, heard, own_home, monkeypatch):
    index.add("ai-edge-litert", "2.1.0", TAG, "2.30")
    index.add("numpy", "2.2.0", TAG, "2.17")
    first = lock_for("litert", LITERT, BULLSEYE, heard)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    again = lock_for("litert", LITERT, BULLSEYE, heard)
    assert first == again
    assert "resolved now" in heard.notes[0]
    assert "resolved earlier" in heard.notes[1]
    with pytest.raises(InputError):  # another wish is another question
        lock_for("litert", RuntimeRange(">=2.2,<3"), BULLSEYE, heard)


def test_a_shipped_lock_needs_no_index(unreachable, heard):
    lock = lock_for("litert", LITERT, Platform("3.11", "aarch64", "glibc", "2.36"), heard)
    assert lock in shipped_locks()
    assert "locked by edgepack" in heard.notes[0]


def test_a_shipped_lock_that_does_not_fit_is_not_used(unreachable, heard):
    with pytest.raises(BoardError):  # a glibc older than any shipped lock for 3.11 runs with
        lock_for("litert", LITERT, Platform("3.11", "aarch64", "glibc", "2.27"), heard)
    with pytest.raises(BoardError):
        lock_for("litert", RuntimeRange(">=2.1,<2.2"), Platform("3.11", "aarch64", "glibc", "2.36"), heard)


@pytest.mark.parametrize(("libc", "version"), [("bionic", "34"), ("", ""), ("glibc", ""), ("glibc", "2")])
def test_a_c_library_without_wheels_is_refused(heard, libc, version):
    with pytest.raises(InputError, match="no wheels of litert") as caught:
        lock_for("litert", LITERT, Platform("3.11", "aarch64", libc, version), heard)
    assert "provider = 'system'" in caught.value.advice


def test_locking_what_the_system_provides_is_our_bug(heard):
    with pytest.raises(BugError):
        lock_for("litert", RuntimeRange(">=2.1", provider="system"), BULLSEYE, heard)


@given(st.integers(17, 41), st.sampled_from(["aarch64", "x86_64", "armv7l"]))
def test_tags_that_promise_to_run_come_before_those_that_do_not(minor, machine):
    tags = platform_tags(Platform("3.11", machine, "glibc", f"2.{minor}"))
    numbered = [int(tag.split("_")[2]) for tag in tags if tag.startswith("manylinux_2_")]
    honest = [number for number in numbered if number <= minor]
    assert numbered[: len(honest)] == honest == sorted(honest, reverse=True)
    assert numbered[0] == minor
    assert sorted(numbered) == list(range(min(numbered), 42))
    assert len(set(tags)) == len(tags)
    assert all(tag.endswith(machine) or tag == "linux_armv6l" for tag in tags)


def test_musl_has_tags_of_its_own():
    assert platform_tags(Platform("3.12", "aarch64", "musl", "1.2")) == (
        "musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64",
    )  # fmt: skip
