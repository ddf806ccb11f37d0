"""Where an emulated board keeps its programs, who logs in there, and what such a login sees of the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, assert_never

LayoutName = Literal["debian", "termux"]

TERMUX_FILES = "data/data/com.termux/files"


@dataclass(frozen=True)
class Layout:
    """user, number: who logs in; home, shell: absolute paths on the board; environment: beyond what sshd sets itself

    hidden: files below /proc that this user may not read there
    """

    user: str
    number: int
    home: PurePosixPath
    shell: PurePosixPath
    environment: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()


DEBIAN = Layout("pi", 1000, PurePosixPath("/home/pi"), PurePosixPath("/bin/sh"))

_PREFIX = f"/{TERMUX_FILES}/usr"
TERMUX = Layout(
    user="u0_a257",
    number=10257,
    home=PurePosixPath("/", TERMUX_FILES, "home"),
    shell=PurePosixPath(_PREFIX, "bin/bash"),
    environment=(
        ("PATH", f"{_PREFIX}/bin"),
        ("PREFIX", _PREFIX),
        ("TMPDIR", f"{_PREFIX}/tmp"),
        ("LANG", "C.UTF-8"),
        ("ANDROID_ROOT", "/system"),
        ("ANDROID_DATA", "/data"),
        ("TERMUX_VERSION", "0.118.0"),
    ),
    hidden=("loadavg", "stat", "uptime", "version"),  # since Android 8
)


def of(name: LayoutName) -> Layout:
    match name:
        case "debian":
            return DEBIAN
        case "termux":
            return TERMUX
        case _:
            assert_never(name)
