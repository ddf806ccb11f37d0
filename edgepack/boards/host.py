"""Whether this machine can host an emulated board, and what it takes: root, Debian's packages, a kernel that runs arm64."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.boards.device import Architecture
from edgepack.errors import BoardError

if TYPE_CHECKING:
    from edgepack.ports import Progress

SSHD = Path("/usr/sbin/sshd")

_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_INTERPRETERS: dict[Architecture, str] = {"arm64": "qemu-aarch64", "armhf": "qemu-arm"}
_POLICY = Path("/usr/sbin/policy-rc.d")
_ADMIN = 1 << 21  # CAP_SYS_ADMIN, capability.h


def can_host_emulated() -> str | None:
    """None where an emulated board can be started here, else the one reason why not and what would change it."""
    if sys.platform != "linux":
        return f"an emulated board needs Linux, this is {sys.platform}"
    if platform.machine() not in ("x86_64", "aarch64"):
        return f"an emulated board needs an x86_64 or aarch64 machine, this is {platform.machine()}"
    if (system := _system()) != "debian":
        return f"an emulated board is built from Debian's packages by a Debian machine's own apt, this is {system or 'unknown'}"
    if os.geteuid() != 0:
        missing = missing_packages()
        install = f"; also missing: apt-get install {' '.join(missing)}" if missing else ""
        return f"an emulated board needs root (mounts, chroot): run edgepack as root{install}"
    if not _has_admin():
        return "this container may not mount: start it with --privileged (CAP_SYS_ADMIN) to host an emulated board"
    if not _native() and not _BINFMT.is_dir() and not _load_binfmt():
        return "this kernel has no binfmt_misc, through which arm64 programs are run (modprobe binfmt_misc)"
    return None


def can_host_machine() -> str | None:
    """None where a machine board can be started here, else the one reason why not and what would change it."""
    if sys.platform != "linux":
        return f"a machine board needs Linux, this is {sys.platform}"
    if (system := _system()) != "debian":
        return f"a machine board is built from Debian's packages by a Debian machine's own apt, this is {system or 'unknown'}"
    if os.geteuid() != 0:
        return "a machine board needs root, to unpack a system as it is: run edgepack as root"
    return None


def prepare_machine(progress: Progress) -> None:
    """Install QEMU and the tools that make a disk where they are missing. Raises BoardError where that fails."""
    tools = {
        "qemu-system-aarch64": ("qemu-system-arm", "ipxe-qemu"),
        "qemu-img": ("qemu-utils",),
        "mke2fs": ("e2fsprogs",),
    }
    missing = tuple(name for tool, names in tools.items() if not shutil.which(tool, path=_path()) for name in names)
    if missing:
        with progress.step(f"installing {' '.join(missing)} (apt-get)"):
            _install(missing)


def missing_packages(architecture: Architecture = "arm64") -> tuple[str, ...]:
    """Debian's packages that an emulated board needs and this machine lacks."""
    needed: list[str] = []
    if not _native(architecture) and not _interpreter_ready(architecture):
        needed += [] if shutil.which(f"{_INTERPRETERS[architecture]}-static") else ["qemu-user-static"]
        needed += [] if shutil.which("update-binfmts", path=_path()) else ["binfmt-support"]
    needed += [] if SSHD.exists() else ["openssh-server"]
    needed += [] if shutil.which("unshare") else ["util-linux"]
    needed += [] if shutil.which("mount") else ["mount"]
    return tuple(needed)


def prepare(progress: Progress, architecture: Architecture = "arm64") -> None:
    """Install what is missing and let the kernel run such programs. Raises BoardError where that fails."""
    if missing := missing_packages(architecture):
        with progress.step(f"installing {' '.join(missing)} (apt-get)"):
            _install(missing)
    if not _native(architecture) and not _interpreter_ready(architecture):
        _enable_interpreter(architecture)


def _install(packages: tuple[str, ...]) -> None:
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120", *packages]
    with _no_services():
        done = run(command)
        if done.returncode != 0:  # the package lists are missing or old
            run(["apt-get", "update", "-q"])
            done = run(command)
    if done.returncode != 0:
        raise BoardError(
            f"apt-get could not install {' '.join(packages)}:\n{tail(done)}",
            advice=f"apt-get update && apt-get install {' '.join(packages)}",
        )


@contextmanager
def _no_services() -> Iterator[None]:
    """Installing a server's package must not start that server here: invoke-rc.d(8) asks policy-rc.d first."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _enable_interpreter(architecture: Architecture) -> None:
    interpreter = _INTERPRETERS[architecture]
    if not (_BINFMT / "status").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)])
    done = run(["update-binfmts", "--enable", interpreter])
    if not _interpreter_ready(architecture):
        raise BoardError(
            f"the kernel does not run {architecture} programs: {_BINFMT / interpreter} is not enabled\n{tail(done)}",
            expected=f"binfmt_misc mounted, {interpreter} enabled with its flag F",
            advice=f"mount -t binfmt_misc binfmt_misc {_BINFMT} && update-binfmts --enable {interpreter}",
        )


def _interpreter_ready(architecture: Architecture) -> bool:
    """F: the kernel holds the interpreter open, so that it need not exist inside the board's root."""
    try:
        lines = (_BINFMT / _INTERPRETERS[architecture]).read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return "enabled" in lines and "F" in flags


def _native(architecture: Architecture = "arm64") -> bool:
    if platform.machine() != "aarch64":
        return False
    # some 64-bit cores run no 32-bit programs at all: the kernel refuses that personality there
    return architecture == "arm64" or run(["setarch", "armv7l", "true"]).returncode == 0


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("ID", "")
    except OSError:
        return ""


def _has_admin() -> bool:
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) & _ADMIN)


def _load_binfmt() -> bool:
    if shutil.which("modprobe", path=_path()):
        run(["modprobe", "binfmt_misc"])
    return _BINFMT.is_dir()


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def run(command: list[str], seconds: float = 900.0) -> subprocess.CompletedProcess[str]:
    """Run one of the system's own tools, its output in English. Raises BoardError where it is missing or hangs."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "PATH": _path()}
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
        )
    except FileNotFoundError:
        raise BoardError(
            f"{command[0]} is not installed", advice=f"install the package that has {command[0]}"
        ) from None
    except subprocess.TimeoutExpired:
        raise BoardError(f"{command[0]} did not end within {seconds:.0f} s", advice="run it by hand and see") from None


def must(command: list[str], purpose: str) -> str:
    """Run a tool whose failure ends the work. Raises BoardError with what it said."""
    done = run(command)
    if done.returncode != 0:
        raise BoardError(f"{purpose} failed: {' '.join(command[:2])} … ended with {done.returncode}\n{tail(done)}")
    return done.stdout


def tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
