"""A board that is a whole arm64 machine: it boots, loses what it did not flush when its plug is pulled, and can be put back."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from edgepack import boards, delivery
from edgepack.boards import cpio
from edgepack.errors import UsageError

NAME = "boards-machine"


def machine(progress):
    (target,) = boards.up(NAME, "machine", "", 1, progress)
    return target


@pytest.fixture(scope="module")
def ended_at_last(progress, test_home):
    yield
    boards.down(NAME, progress)


@pytest.mark.machine
@pytest.mark.xdist_group("machine")
def test_a_machine_that_loses_power_keeps_what_it_flushed(progress, connected, ended_at_last):
    target = machine(progress)
    (checked,) = delivery.check([target], progress)
    facts = checked.facts
    assert facts and (facts.machine, facts.board, facts.filesystem) == ("aarch64", "machine", "ext4")
    assert facts.cpu_part == "0xd08"
    with connected(target) as link:
        assert link.run("cat /proc/sys/kernel/hostname").out == f"{NAME}\n"
        assert link.run("echo kept > kept && sync kept && sync .").status == 0
        assert link.run("echo lost > lost").status == 0
    boards.cut(NAME)
    assert not next(board for board in boards.listing() if board.name == NAME).running
    target = machine(progress)
    with connected(target) as link:
        assert link.run("cat kept").out == "kept\n"
        assert link.run("cat lost").out == "", "nothing was lost: this was no power cut"
        boards.snapshot(NAME)
        link.run("echo after > after; sync")
    target = boards.restore(NAME, progress)
    with connected(target) as link:
        assert link.run("cat kept; ls after").out == "kept\n"


def test_only_a_machine_has_a_plug(progress, test_home):
    (target,) = boards.up("no-machine", "loopback", "", 1, progress)
    try:
        for call in (boards.cut, boards.snapshot, lambda name: boards.restore(name, progress)):
            with pytest.raises(UsageError, match="no machine board"):
                call(target.name)
    finally:
        boards.down("no-machine", progress)


def test_a_profile_that_is_no_machine_is_refused(progress, test_home):
    with pytest.raises(UsageError, match=r"android-arm64.*(machine board|emulated)"):
        boards.up("no-phone", "machine", "android-arm64", 1, progress)


@pytest.mark.cpio
def test_an_initial_ram_disk_is_what_cpio_reads(tmp_path: Path):
    data = cpio.archive([cpio.Entry("bin"), cpio.Entry("bin/tool", b"#!x\n", 0o750), cpio.Entry("odd", b"123", 0o600)])
    assert len(data) % 4 == 0
    subprocess.run(["cpio", "-id", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/tool").read_bytes() == b"#!x\n" and (tmp_path / "odd").read_bytes() == b"123"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o750
