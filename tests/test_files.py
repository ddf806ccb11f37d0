"""A file is whole or not there."""

from __future__ import annotations

import pytest

from edgepack import files


def test_the_new_bytes_or_the_old(tmp_path):
    path = tmp_path / "deep" / "file"
    files.replace(path, b"old")
    with pytest.raises(RuntimeError), files.aside(path) as fresh:
        fresh.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [found.name for found in path.parent.iterdir()] == ["file"]
    files.replace(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_folder_appears_at_once(tmp_path):
    with files.aside(tmp_path / "folder") as fresh:
        fresh.mkdir()
        (fresh / "a").write_text("a")
        assert not (tmp_path / "folder").exists()
    assert (tmp_path / "folder" / "a").read_text() == "a"
