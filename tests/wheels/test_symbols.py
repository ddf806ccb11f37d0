from __future__ import annotations

import sysconfig
import zipfile
from pathlib import Path

import pytest

from edgepack.errors import InputError
from edgepack.wheels.symbols import needs_glibc


def wheel(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def elf(index):
    """The maker of libraries from conftest, whose folder pytest does not put on the path."""
    return index.add.__globals__["library"]


def test_the_highest_need_of_any_library_counts(tmp_path, elf):
    files = {
        "p/a.so": elf("GLIBC_2.17", "GLIBC_2.4"),
        "p/b.cpython-311-x86_64-linux-gnu.so": elf("GLIBC_2.27", "GLIBC_2.9"),
        "p.libs/libz-1a2b.so.1.2.3": elf("GLIBC_2.28"),
        "p/data.txt": elf("GLIBC_2.99"),
    }
    assert needs_glibc(wheel(tmp_path / "w.whl", files)) == "2.28"


def test_what_the_loader_does_not_insist_on_does_not_count(tmp_path, elf):
    files = {
        "weak.so": elf("GLIBC_2.17", weak=["GLIBC_2.38"]),
        "private.so": elf("GLIBC_PRIVATE", "GLIBCXX_3.4.30", "GCC_3.0"),
    }
    assert needs_glibc(wheel(tmp_path / "w.whl", files)) == "2.17"


def test_packed_relocations_need_the_loader_that_knows_them(tmp_path, elf):
    assert needs_glibc(wheel(tmp_path / "w.whl", {"a.so": elf("GLIBC_2.17", "GLIBC_ABI_DT_RELR")})) == "2.36"


def test_no_library_needs_nothing(tmp_path, elf):
    assert needs_glibc(wheel(tmp_path / "w.whl", {"a.py": b"", "b.so": b"INPUT(-lc)", "c.so": elf()})) == ""


def test_a_broken_library_is_named(tmp_path, elf):
    with pytest.raises(InputError, match=r"w\.whl: p/a\.so: a broken library"):
        needs_glibc(wheel(tmp_path / "w.whl", {"p/a.so": elf("GLIBC_2.17")[:-200]}))


def test_what_is_no_wheel_is_named(tmp_path):
    (tmp_path / "w.whl").write_bytes(b"<html>not found</html>")
    with pytest.raises(InputError, match=r"w\.whl"):
        needs_glibc(tmp_path / "w.whl")


def test_a_real_library_of_this_machine_is_read(tmp_path):
    """Any extension module of the running Python, if it has one, needs some glibc and no more than runs here."""
    import platform

    folder = Path(sysconfig.get_config_var("DESTSHARED") or "/nowhere")
    files = {path.name: path.read_bytes() for path in folder.glob("_*.so")}
    kind, version = platform.libc_ver()
    if not files or kind != "glibc":
        pytest.skip("this Python has no extension modules for glibc")
    needs = needs_glibc(wheel(tmp_path / "w.whl", files))
    assert (2, 0) < tuple(map(int, needs.split("."))) <= tuple(map(int, version.split(".")))
