"""Wheels that try to leave their folder, lie about their size, or are none."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest

from edgepack.device import store, unpack
from edgepack.device.faults import Fault

EVIL = json.loads((Path(__file__).parents[1] / "cases/device/evil_paths.json").read_text())


def _wheel(folder: Path, entries: dict[str, bytes], name: str = "x-1.0-py3-none-any.whl") -> str:
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in entries.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename, info.compress_type = entry, zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return str(path)


def _unpack(folder: Path, *wheels: str) -> Path:
    prefix = folder / "venv"
    packages = prefix / "lib/python3/site-packages"
    packages.mkdir(parents=True)
    unpack.unpack(wheels, str(packages), str(prefix))
    return packages


def test_a_wheel_lands_where_pip_would_put_it(tmp_path: Path) -> None:
    wheel = _wheel(
        tmp_path,
        {
            "pkg/__init__.py": b"1",
            "x-1.0.data/purelib/pure.py": b"2",
            "x-1.0.data/platlib/plat.py": b"3",
            "x-1.0.data/data/share/doc.txt": b"4",
            "x-1.0.data/scripts/tool": b"5",
            "x-1.0.dist-info/METADATA": b"6",
        },
    )
    packages = _unpack(tmp_path, wheel)
    found = {str(p.relative_to(tmp_path / "venv")) for p in (tmp_path / "venv").rglob("*") if p.is_file()}
    top = packages.relative_to(tmp_path / "venv")
    expected = {str(top / name) for name in ("pkg/__init__.py", "pure.py", "plat.py", "x-1.0.dist-info/METADATA")}
    assert found == expected | {"share/doc.txt"}


@pytest.mark.parametrize("name", EVIL)
def test_an_evil_path_is_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    raw = name.encode()
    wheel = str(tmp_path / "x-1.0-py3-none-any.whl")
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("good.py", b"")
        info = zipfile.ZipInfo("p" * len(raw))
        archive.writestr(info, b"evil")
    data = Path(wheel).read_bytes().replace(b"p" * len(raw), raw)  # zipfile itself would clean some of them up
    Path(wheel).write_bytes(data)
    with pytest.raises(Fault) as caught:
        _unpack(tmp_path, wheel)
    assert caught.value.kind == "trust"
    assert not [path for path in (tmp_path / "venv").rglob("*") if path.is_file()]


def test_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link.py")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, b"/etc/passwd")
    with pytest.raises(Fault, match="no plain file"):
        _unpack(tmp_path, str(path))


def test_two_wheels_with_one_file_are_refused(tmp_path: Path) -> None:
    wheels = [_wheel(tmp_path, {"same.py": b"x"}, name) for name in ("a.whl", "b.whl")]
    with pytest.raises(Fault, match=r"same\.py"):
        _unpack(tmp_path, *wheels)


def test_a_bomb_is_refused_by_what_it_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_BYTES", 1 << 20)
    wheel = _wheel(tmp_path, {f"zeros{i}.bin": bytes(300_000) for i in range(4)})
    with pytest.raises(Fault, match="1200000 bytes"):
        _unpack(tmp_path, wheel)


def test_a_bomb_that_lies_is_stopped_at_what_it_declared(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path, {"zeros.bin": bytes(3_000_000)})
    size = (3_000_000).to_bytes(4, "little")
    Path(wheel).write_bytes(Path(wheel).read_bytes().replace(size, (1000).to_bytes(4, "little")))
    with pytest.raises(Fault) as caught:
        _unpack(tmp_path, wheel)
    assert caught.value.kind == "trust"
    assert (tmp_path / "venv/lib/python3/site-packages/zeros.bin").stat().st_size <= 1000


@pytest.mark.parametrize("cut", [0, 10, 60])
def test_what_is_no_zip_is_refused(tmp_path: Path, cut: int) -> None:
    wheel = Path(_wheel(tmp_path, {"a.py": b"x" * 500}))
    wheel.write_bytes(wheel.read_bytes()[:cut])
    with pytest.raises(Fault, match="no zip"):
        _unpack(tmp_path, str(wheel))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    wheel = Path(_wheel(tmp_path, {"a.py": bytes(range(256)) * 8}))
    data = bytearray(wheel.read_bytes())
    data[60] ^= 4
    wheel.write_bytes(data)
    with pytest.raises((Fault, OSError)):
        _unpack(tmp_path, str(wheel))


def test_too_little_space_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "free_space", lambda path: store.RESERVE + 100)
    with pytest.raises(Fault, match="not enough space"):
        _unpack(tmp_path, _wheel(tmp_path, {"a.py": b"x" * 101}))
    assert not [path for path in (tmp_path / "venv").rglob("*") if path.is_file()]
