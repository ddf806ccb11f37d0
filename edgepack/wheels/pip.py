"""Asking pip, with whatever index, find-links and certificates the user has configured for it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edgepack.errors import BoardError, TrustError
from edgepack.lock import Platform, Wheel, version_tuple

_DEADLINE = 1800.0
_NEWEST_GLIBC = 42
_NEWEST_MUSL = 2
# pip skips an index page that it cannot get; only "404" means that the index is there and has no such package
_UNREACHABLE = re.compile(r"Could not fetch URL (?!.*\b404 Client Error)")
_NOTHING = re.compile(r"No matching distribution found|Could not find a version that satisfies")
_MISMATCH = re.compile(r"DO NOT MATCH THE HASHES")


def download(requirement: str, platform: Platform, folder: Path) -> Path | None:
    """The newest wheel of one package that fits, without its dependencies, into an empty `folder`; None where none fits.

    "Fits" is by Python, machine and kind of C library: the version of the C library is left open, because tags lie.
    Raises BoardError where the index cannot be reached.
    """
    log = folder / "pip.log"  # where pip tells why it skipped an index, whatever its version prints
    done = _run(["--dest", str(folder), "--log", str(log), *_platform(platform), requirement], requirement)
    if done.returncode == 0:
        (wheel,) = folder.glob("*.whl")
        return wheel
    if _NOTHING.search(done.stderr) and not _UNREACHABLE.search(log.read_text(errors="replace")):
        return None
    raise _unreachable(requirement, done.stderr)


def download_exactly(wheels: Sequence[Wheel], platform: Platform, folder: Path) -> None:
    """Exactly these files into `folder`. Raises TrustError on another digest, BoardError where one cannot be had."""
    listing = folder / "requirements.txt"
    lines = [f"{wheel.name}=={wheel.version} --hash={wheel.digest}\n" for wheel in wheels]
    listing.write_text("".join(lines))
    names = ", ".join(f"{wheel.name} {wheel.version}" for wheel in wheels)
    options = ["--dest", str(folder), "--require-hashes", *_platform(platform), "-r", str(listing)]
    done = _run(options, names)
    if _MISMATCH.search(done.stderr):
        raise TrustError(
            f"the package index offers {names} with another digest than the runtime lock says",
            expected="the wheels that were locked",
            advice="do not use them; ask whoever runs the index, or use another one",
        )
    if done.returncode != 0:
        raise _unreachable(names, done.stderr)


def _run(options: list[str], what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    try:
        return subprocess.run(
            [*command, "--disable-pip-version-check", "--progress-bar", "off", *options],
            capture_output=True,
            text=True,
            timeout=_DEADLINE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise _unreachable(what, "") from None


def _unreachable(what: str, said: str) -> BoardError:
    errors = [line for line in said.splitlines() if line.startswith("ERROR") and "://" not in line]
    return BoardError(
        f"{what} cannot be fetched from the package index that pip is configured with",
        expected="an index that pip can reach and that has it" + (f" (pip says: {errors[-1]})" if errors else ""),
        advice="check the network and `pip config list`, or fetch once where there is a network: wheels are kept",
    )


def _platform(platform: Platform) -> list[str]:
    abi = "cp" + platform.python.replace(".", "")
    options = ["--python-version", platform.python, "--implementation", "cp"]
    for name in (abi, "abi3", "none"):
        options += ["--abi", name]
    for tag in platform_tags(platform):
        options += ["--platform", tag]
    return options


def platform_tags(platform: Platform) -> tuple[str, ...]:
    """Every platform tag that may hold a wheel for the board, the best first (PEP 600, PEP 656).

    First the tags that promise to run there, newest C library first, then those that promise less: such a wheel runs
    where its libraries need no more than the board has, which `symbols` reads.
    """
    machine = platform.machine
    if platform.libc == "musl":
        return tuple(f"musllinux_1_{minor}_{machine}" for minor in range(_NEWEST_MUSL, -1, -1))
    oldest = 5 if machine == "x86_64" else 17
    board = version_tuple(platform.libc_version)[1]
    minors = [*range(board, oldest - 1, -1), *range(board + 1, _NEWEST_GLIBC)]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in minors]
    legacy = ["manylinux2014", *(["manylinux2010", "manylinux1"] if machine == "x86_64" else [])]
    plain = ["linux_armv7l", "linux_armv6l"] if machine == "armv7l" else []  # what an index of Raspberry Pi wheels has
    return (*tags, *(f"{name}_{machine}" for name in legacy), *plain)
