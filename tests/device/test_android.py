"""What is different on a phone, as far as this machine can play it: no hard links, properties instead of files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepack.device import facts, release


@pytest.mark.parametrize("how", ["forbidden", "unknown"])
def test_without_hard_links_a_release_refers_to_its_blobs(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SELinux forbids them to apps; a Python for Android may have no `os.link` at all."""

    def forbidden(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    if how == "unknown":
        monkeypatch.delattr(os, "link")
    else:
        monkeypatch.setattr(os, "link", forbidden)
    (tmp_path / "blobs").mkdir()
    (tmp_path / "release").mkdir()
    (tmp_path / "blobs/one").write_bytes(b"model")
    for _ in range(2):
        release._link(str(tmp_path / "blobs/one"), str(tmp_path / "release/model"))
    assert (tmp_path / "release/model").read_bytes() == b"model"
    assert [path.name for path in (tmp_path / "release").iterdir()] == ["model"]


def test_a_phone_names_itself_by_its_properties(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "getprop"
    tool.write_text(
        "#!/bin/sh\ncase $1 in *release) echo 14 ;; *manufacturer) echo Fair ;; *model) echo Phone ;; esac\n"
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert facts._android("Android", "ro.build.version.release") == "Android 14"
    assert facts._android("", "ro.product.manufacturer", "ro.product.model") == "Fair Phone"
    assert facts._android("Android", "ro.none") == ""
    tool.unlink()
    assert facts._android("Android", "ro.build.version.release") == ""
