"""What this board says of itself now. Read from /proc and /sys; nothing is changed, nothing is created."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from typing import Any, Dict, List, Optional

from . import conditions, delta, receive, release, runtime, store, trust
from .faults import Fault
from .requests import FactsRequest

PROTOCOL = 1
_LINKLESS = ("vfat", "msdos", "fat", "exfat", "umsdos", "sdcardfs")
_BOARDS = ("loopback", "emulated", "machine")


def facts(root: str, request: FactsRequest) -> Dict[str, Any]:
    """The reply of the `facts` verb: platform, CPU, memory, disk, releases, runtimes, and the state of the blobs asked for."""
    releases = releases_of(root, request.name, request.verify)
    damaged = any(one["verified"] is False for one in releases)
    libc, libc_version = c_library()
    cpu = cpu_facts(_read("/proc/cpuinfo"))
    return {
        "protocol": PROTOCOL,
        "hostname": socket.gethostname(),
        "machine": machine(),
        "bits": struct.calcsize("P") * 8,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "libc": libc,
        "libc_version": libc_version,
        "os": os_name(_read("/etc/os-release")) or _android("Android", "ro.build.version.release") or sys.platform,
        "kernel": platform.release(),
        **cpu,
        "cores": os.cpu_count() or 1,
        "memory_kb": memory_kb(_read("/proc/meminfo")),
        "disk_free": store.free_space(root),
        "filesystem": filesystem(root, _read("/proc/mounts")),
        "board_model": _read("/proc/device-tree/model", "/sys/firmware/devicetree/base/model").strip("\0\n ")
        or _android("", "ro.product.manufacturer", "ro.product.model"),
        "board": stand_in(),
        "root": root,
        "releases": releases,
        "highest": {name: line.highest for name, line in store.read_lines(root).items()},
        "runtimes": runtime.ready(root),
        "system_runtimes": dict(runtime.system()) if request.probe_system_runtimes else {},
        "conditions": conditions.read(),
        "trust": trust.state(root),
        "blobs": receive.states(root, request.blobs, damaged),
        "codecs": delta.codecs(),
    }


def releases_of(root: str, name: str, verify: bool) -> List[Dict[str, Any]]:
    """Every release that is ready. verify: hash the files of those called `name`, or of all where it is empty."""
    lines = store.read_lines(root)
    found = []
    for record in release.all_of(root):
        asked = verify and name in ("", record.name)
        active = store.active(root, record.name) == record.digest
        history = lines.get(record.name, store.Line()).history
        found.append(
            {
                "name": record.name,
                "version": record.version,
                "digest": record.digest,
                "active": active,
                "confirmed": active and history[-1:] == (record.digest,),
                "previous": not active and record.digest in history,
                "verified": release.intact(root, record, True) if asked else None,
                "default": record.variant,
                "variants": record.variants,
                "runtimes": record.runtimes,
                "profile": record.profile,
                "assurance": record.assurance,
                "key": record.key,
                "checked_by": record.checked_by,
                "expires": record.expires,
                "record": store.hash_text(record.record) if record.record else "",
            }
        )
    return found


def machine() -> str:
    """As `uname -m` prints it, of the userland: a 32-bit system on a 64-bit kernel takes 32-bit wheels."""
    name = platform.machine()
    if struct.calcsize("P") == 4:
        return {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}.get(name, name)
    return name


def c_library() -> List[str]:
    """`glibc`, `musl` or `bionic`, and its version."""
    if hasattr(sys, "getandroidapilevel"):
        return ["bionic", str(sys.getandroidapilevel())]
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name = version = ""
    if name == "glibc":
        return [name, version]
    return ["musl", _musl_version()] if _musl() else list(platform.libc_ver())


def _musl() -> Optional[str]:
    found = [name for folder in ("/lib", "/usr/lib") if os.path.isdir(folder) for name in os.listdir(folder)]
    return next((name for name in found if name.startswith("ld-musl-")), None)


def _musl_version() -> str:
    """musl's loader prints its version when it is run without arguments."""
    done = subprocess.run(["/lib/" + str(_musl())], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=10)
    lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.startswith("Version ")]
    return lines[0].split()[1] if lines else ""


def cpu_facts(cpuinfo: str) -> Dict[str, Any]:
    """Name, ARM part number and features of the first core, from /proc/cpuinfo as x86 and ARM kernels write it."""
    values: Dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    model = values.get("model name") or values.get("Model") or values.get("Hardware") or platform.processor()
    features = values.get("Features") or values.get("flags") or ""
    return {"cpu_model": model, "cpu_part": values.get("CPU part", ""), "cpu_features": sorted(set(features.split()))}


def memory_kb(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return 0


def os_name(os_release: str) -> str:
    for line in os_release.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return ""


def _android(title: str, *properties: str) -> str:
    """Android's own properties, after `title`; empty on another system."""
    tool = shutil.which("getprop")
    if tool is None:
        return ""
    words = []
    for name in properties:
        try:
            done = subprocess.run([tool, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return ""
        words.append(done.stdout.decode("utf-8", "replace").strip())
    return " ".join(word for word in (title, *words) if word) if all(words) else ""


def filesystem(path: str, mounts: str) -> str:
    """The type of the file system that `path` lies on, from /proc/mounts; empty where that does not tell."""
    path = os.path.realpath(path)
    best = kind = ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = fields[1].replace("\\040", " ")
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2]
    return kind


def ensure_links(root: str) -> None:
    """Raises Fault on a file system that cannot replace a link in one step."""
    kind = filesystem(root, _read("/proc/mounts"))
    if kind in _LINKLESS:
        raise Fault(
            "board",
            f"{root} lies on a {kind} file system, where a release cannot be switched in one step",
            expected="a file system with links and atomic renames: ext4, btrfs, xfs, f2fs, …",
            advice="give the target a `root` on another file system",
        )


def stand_in() -> str:
    """`loopback`, `emulated` or `machine` where edgepack started this board itself and left a note in its home, else empty."""
    said = _read(os.path.expanduser("~/.edgepack-board")).strip()
    return said if said in _BOARDS else ""


def _read(*paths: str) -> str:
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            continue
    return ""
