"""A machine that cannot host an emulated board says the one reason, and nothing is started there."""

from __future__ import annotations

import os
import platform
import sys

import pytest

from edgepack import boards
from edgepack.boards import host
from edgepack.errors import UsageError


@pytest.fixture
def debian(monkeypatch):
    """A machine that can, as far as these questions go; each test takes one thing away."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(host, "_system", lambda: "debian")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(host, "_has_admin", lambda: True)
    monkeypatch.setattr(host, "_load_binfmt", lambda: True)
    return monkeypatch


def test_nothing_is_missing(debian):
    assert boards.can_host_emulated() is None


@pytest.mark.parametrize(
    ("at", "name", "value", "said"),
    [
        (sys, "platform", "darwin", "needs Linux, this is darwin"),
        (platform, "machine", lambda: "riscv64", "riscv64"),
        (host, "_system", lambda: "fedora", "Debian"),
        (os, "geteuid", lambda: 1000, "needs root"),
        (host, "_has_admin", lambda: False, "--privileged"),
    ],
)
def test_the_reason_is_named(debian, home, progress, at, name, value, said):
    debian.setattr(at, name, value)
    reason = boards.can_host_emulated()
    assert reason and said in reason
    with pytest.raises(UsageError) as refused:
        boards.up("pi", "emulated", "", 1, progress)
    assert refused.value.what == reason and "loopback" in refused.value.advice
    assert not (home / "boards/pi").exists()


def test_who_is_not_root_learns_what_to_install(debian):
    debian.setattr(os, "geteuid", lambda: 1000)
    debian.setattr(host, "missing_packages", lambda: ("qemu-user-static", "openssh-server"))
    assert "apt-get install qemu-user-static openssh-server" in (boards.can_host_emulated() or "")


def test_a_profile_that_cannot_be_emulated_is_refused_before_anything_is_installed(debian, home, progress):
    debian.setattr(host, "prepare", lambda *_: pytest.fail("installed before the profile was checked"))
    with pytest.raises(UsageError, match="linux-x86_64"):
        boards.up("pi", "emulated", "linux-x86_64", 1, progress)
