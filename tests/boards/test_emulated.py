"""An emulated board: a real arm64 Debian behind a real sshd. One board serves all tests that do not end it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from edgepack import boards
from edgepack.boards import processes, rootfs
from edgepack.errors import BoardError

pytestmark = pytest.mark.emulated

WHEELS = ("numpy", "onnxruntime", "ai-edge-litert")
PLATFORMS = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")


@pytest.fixture(scope="module")
def pi(progress, test_home):
    (target,) = boards.up("boards-pi", "emulated", "", 1, progress)
    yield target
    boards.down("boards-pi", progress)


@pytest.fixture
def own_home(home, test_home):
    """A home of the test's own over the shared root file system."""
    (home / "cache").mkdir(parents=True)
    (home / "cache/rootfs").symlink_to((test_home / "cache/rootfs").resolve())
    return home


def inside(namespace: str) -> list[str]:
    """The processes of a pid namespace."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            found += [entry.parts[2]] if str(entry.readlink()) == namespace else []
        except OSError:  # ended meanwhile
            continue
    return found


def test_it_is_a_raspberry_pi_4(pi, connected):
    with connected(pi) as link:
        assert link.run("uname -n; uname -m; id -un").out.split() == ["boards-pi", "aarch64", "pi"]
        assert "0xd08" in link.run("cat /proc/cpuinfo").out
        assert link.run("cat /sys/firmware/devicetree/base/model").out == "Raspberry Pi 4 Model B Rev 1.1\0"
        assert link.run("cat /etc/edgepack-board ~/.edgepack-board").out == "emulated\nemulated\n"
        assert link.run("echo $QEMU_CPU").out == "cortex-a72\n"


def test_its_user_is_nobody_special(pi, connected):
    with connected(pi) as link:
        assert link.run("touch /etc/x").status != 0
        assert link.run("touch ~/x && rm ~/x && ls /sys/class/thermal/thermal_zone0").out.split() == ["temp", "type"]
        assert link.run("echo 1 > /sys/class/thermal/thermal_zone0/temp").status != 0


def test_its_python_makes_environments(pi, connected):
    with connected(pi) as link:
        made = link.run(
            "python3 -m venv --without-pip v && v/bin/python -c 'import platform; print(platform.machine())'"
        )
    assert (made.status, made.out) == (0, "aarch64\n"), made.err


def test_files_go_through_sftp_too(pi, connected):
    with connected(pi) as link:
        sftp = link.transport.open_sftp_client()
        assert sftp is not None
        with sftp.open("/home/pi/sent", "wb") as file:
            file.write(b"over sftp")
        assert link.run("cat sent").out == "over sftp"


@pytest.mark.network
def test_the_runtimes_import_on_it(pi, connected, tmp_path):
    """onnxruntime and LiteRT crash under qemu-user unless the board shows an arm64 machine."""
    fetch_wheels(tmp_path / "site")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(tmp_path / "site", "site")
    code = "import numpy, onnxruntime, ai_edge_litert.interpreter as i; print(int(numpy.ones(3) @ numpy.ones(3)))"
    with connected(pi) as link:
        assert link.run("tar x", packed.getvalue()).status == 0
        answer = link.run(f"PYTHONPATH=site timeout 150 python3 -c '{code}'")
        link.run("rm -rf site")
    assert (answer.status, answer.out) == (0, "3\n"), answer.err


def fetch_wheels(site: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(site),
        "--only-binary=:all:",
        "--no-compile",
    ]
    command += [
        "--python-version",
        "3.11",
        "--implementation",
        "cp",
        "--abi",
        "cp311",
        "--abi",
        "abi3",
        "--abi",
        "none",
    ]
    for platform in PLATFORMS:
        command += ["--platform", f"{platform}_aarch64"]
    subprocess.run([*command, *WHEELS], check=True, capture_output=True, timeout=300)


def test_several_share_one_root_and_not_their_files(own_home, progress, connected):
    started = boards.up("twin", "emulated", "rpi5", 2, progress)
    for target in started:
        with connected(target) as link:
            assert link.run("ls; hostname > mine; uname -n; echo $QEMU_CPU").out.split() == [target.name, "cortex-a76"]
    roots = [path for path in (own_home / "cache/rootfs").iterdir() if not path.name.startswith(".")]
    assert all(not (root / "home/pi/mine").exists() for root in roots)
    assert boards.down("twin", progress) == ("twin-1", "twin-2")


def test_down_leaves_no_process_and_no_mount(own_home, progress, connected):
    (target,) = boards.up("brief", "emulated", "", 1, progress)
    namespace = str(Path(f"/proc/{boards.listing()[0].pid}/ns/pid").readlink())
    with connected(target) as link:
        link.open("setsid sleep 305")
        link.run("nohup setsid sleep 306 > /dev/null 2>&1 &")
        assert len(inside(namespace)) >= 3
        assert boards.down("brief", progress) == ("brief",)
    assert inside(namespace) == []
    assert processes.marked(str(own_home / "boards/brief")) == ()
    mounts = Path("/proc/mounts").read_text()
    assert "edgepack-board" not in mounts and str(own_home) not in mounts
    assert not (own_home / "boards/brief").exists() and not (own_home / "targets/brief.toml").exists()


def test_a_pulled_plug_and_up_again(own_home, progress, connected):
    (target,) = boards.up("plug", "emulated", "", 1, progress)
    with connected(target) as link:
        assert link.run("echo kept > file; sync").status == 0
    os.kill(boards.listing()[0].pid, signal.SIGKILL)
    limit = time.monotonic() + 10
    while boards.listing()[0].running and time.monotonic() < limit:
        time.sleep(0.02)
    (again,) = boards.up("plug", "emulated", "", 1, progress)
    assert again.host_key == target.host_key
    with connected(again) as link:
        assert link.run("cat file").out == "kept\n"


def test_where_the_file_system_cannot_stack_the_board_gets_a_copy(
    tmp_path, monkeypatch, progress, connected, test_home
):
    """A container's own disk is an overlay, over which no other can write: there the root is copied, and it is said."""
    for part in ("lower", "upper", "work", "disk"):
        (tmp_path / part).mkdir()
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", tmp_path / "disk"], check=True)
    try:
        place = tmp_path / "disk/home"
        (place / "cache").mkdir(parents=True)
        (place / "cache/rootfs").symlink_to((test_home / "cache/rootfs").resolve())
        monkeypatch.setenv("EDGEPACK_HOME", str(place))
        notes: list[str] = []
        monkeypatch.setattr(progress, "note", notes.append)
        (target,) = boards.up("copied", "emulated", "", 1, progress)
        with connected(target) as link:
            assert link.run("uname -m; echo mine > file; cat file").out.split() == ["aarch64", "mine"]
        assert (place / "boards/copied/root/home/pi/file").exists()
        assert any("copy of the root" in note for note in notes)
        boards.down("copied", progress)
    finally:
        subprocess.run(["umount", tmp_path / "disk"], check=True)


def test_two_that_build_at_once_build_one_root(tmp_path, progress, monkeypatch):
    """Two processes, one cache: the second waits and takes what the first built; nothing half-built is left."""
    few = ("base-passwd", "dash", "libc-bin", "mawk", "python3-minimal", "ca-certificates")
    code = (
        "from edgepack.boards import rootfs; from edgepack.cli.progress import Plain; "
        f"rootfs.PACKAGES = {few}; print(rootfs.ensure(Plain()))"
    )
    environment = {**os.environ, "EDGEPACK_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[0][0] == said[1][0]
    root = Path(said[0][0].strip())
    assert sum("unpacking" in err or "fetching" in err for _, err in said) == 1
    assert [path.name for path in root.parent.iterdir() if not path.name.startswith(".lock")] == [root.name]
    assert (root / "usr/bin/python3").exists() and (root / "etc/passwd").read_text().endswith("nologin\n")
    shutil.rmtree(tmp_path / "home")


def test_a_root_that_cannot_be_built_leaves_nothing(home, progress, monkeypatch):
    monkeypatch.setattr(rootfs, "PACKAGES", ("no-such-package-anywhere",))
    with pytest.raises(BoardError, match="no-such-package-anywhere"):
        boards.up("pi", "emulated", "", 1, progress)
    assert [path.name for path in (home / "cache/rootfs").iterdir()] == [".lock"]
    assert not (home / "boards/pi").exists()
