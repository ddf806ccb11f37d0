from __future__ import annotations

import shutil

import msgspec
import pytest

from edgepack import digest
from edgepack.errors import BoardError, InputError, TrustError
from edgepack.lock import Platform
from edgepack.profile import RuntimeRange
from edgepack.wheels import fetch, resolve

PLATFORM = Platform("3.11", "riscv64", "glibc", "2.31")
TAG = "cp311-cp311-manylinux_2_34_riscv64"


@pytest.fixture
def lock(index, heard, own_home):
    """A lock whose wheels were found, but are not kept any more."""
    index.add("ai-edge-litert", "2.1.0", TAG, "2.30")
    index.add("numpy", "2.2.0", TAG, "2.17")
    found = resolve("litert", RuntimeRange(">=2.1"), PLATFORM, heard)
    shutil.rmtree(own_home / "wheels")
    heard.steps.clear()
    return found


def test_wheels_are_fetched_once_and_kept(lock, heard, index):
    paths = fetch(lock, heard)
    assert [path.name for path in paths] == [wheel.filename for wheel in lock.wheels]
    assert [digest.of_file(path) for path in paths] == [wheel.digest for wheel in lock.wheels]
    assert len(heard.steps) == 1
    assert "ai-edge-litert 2.1.0, numpy 2.2.0" in heard.steps[0]
    shutil.rmtree(index.folder)
    assert fetch(lock, heard) == paths
    assert len(heard.steps) == 1


def test_only_what_is_missing_is_fetched(lock, heard):
    paths = fetch(lock, heard)
    paths[1].unlink()
    assert fetch(lock, heard) == paths
    assert "numpy" in heard.steps[1]
    assert "litert" not in heard.steps[1]


def test_a_damaged_wheel_is_fetched_again_and_that_is_said(lock, heard):
    paths = fetch(lock, heard)
    paths[0].write_bytes(b"damaged")
    assert fetch(lock, heard) == paths
    assert digest.of_file(paths[0]) == lock.wheels[0].digest
    assert str(paths[0]) in heard.warnings[0]


def test_another_file_under_the_same_name_is_not_trusted(lock, heard, index, own_home):
    index.add("numpy", "2.2.0", TAG, "2.17", extra=b"evil")
    with pytest.raises(TrustError, match=r"numpy 2\.2\.0") as caught:
        fetch(lock, heard)
    assert caught.value.exit_code == 6
    assert not list(own_home.rglob("numpy*"))
    assert not list((own_home / "wheels").glob(".part-*"))


def test_an_index_without_it_is_named_by_the_package(lock, heard, index):
    for path in index.folder.glob("numpy*"):
        path.unlink()
    with pytest.raises(BoardError, match=r"numpy 2\.2\.0") as caught:
        fetch(lock, heard)
    assert "://" not in str(caught.value)


def test_an_index_that_cannot_be_reached_is_named_by_the_package(lock, heard, unreachable):
    with pytest.raises(BoardError, match=r"ai-edge-litert 2\.1\.0, numpy 2\.2\.0") as caught:
        fetch(lock, heard)
    assert "://" not in str(caught.value)


def test_a_home_that_cannot_be_written_is_named(lock, heard, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="file/wheels") as caught:
        fetch(lock, heard)
    assert "EDGEPACK_HOME" in caught.value.advice


def test_a_wheel_whose_name_differs_from_the_lock_is_not_kept(lock, heard):
    renamed = msgspec.structs.replace(lock.wheels[1], filename="numpy-2.2.0-cp311-cp311-manylinux_2_17_riscv64.whl")
    with pytest.raises(TrustError, match="another file"):
        fetch(msgspec.structs.replace(lock, wheels=(renamed,)), heard)
