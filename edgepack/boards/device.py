"""What an emulated board shows of itself: the fake /proc and /sys of a device, out of its shipped description.

Without it qemu-user shows the host's: runtimes then detect an x86 CPU where arm64 code runs, and crash.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from edgepack import documents
from edgepack.boards.layout import LayoutName
from edgepack.errors import UsageError
from edgepack.home import shipped

Architecture = Literal["arm64", "armhf"]


class Cpu(Struct, frozen=True, forbid_unknown_fields=True):
    """One core as /proc/cpuinfo describes it. title: the `model name` that 32-bit kernels write"""

    name: str
    implementer: str
    part: str
    variant: str
    revision: int
    bogomips: str
    features: tuple[str, ...]
    title: str = ""


class Frequency(Struct, frozen=True, forbid_unknown_fields=True):
    min_khz: int
    max_khz: int
    governor: str


class Thermal(Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    millicelsius: int


class Device(Struct, frozen=True, forbid_unknown_fields=True):
    """A device that can be emulated. qemu_cpu: QEMU's name of the core, which decides the instructions that exist

    architecture: Debian's name of it; layout: where its programs lie; port: of its SSH server where it is free, 0 for any
    note: what the board does not show of the real device
    """

    schema: Literal["edgepack.device/1"]
    model: str
    qemu_cpu: str
    cores: int
    memory_mb: int
    hardware: str
    revision: str
    cpu: Cpu
    frequency: Frequency
    thermal: Thermal
    architecture: Architecture = "arm64"
    layout: LayoutName = "debian"
    port: int = 0
    note: str = ""


@dataclass(frozen=True)
class FakeFile:
    """path: relative to / on the board"""

    path: str
    text: str


def read(profile: str) -> Device:
    """The device that stands for `profile`. Raises UsageError where edgepack ships none."""
    folder = shipped("targets") / "boards"
    path = folder / f"{profile}.toml"
    if not path.is_file():
        known = sorted(entry.stem for entry in folder.glob("*.toml"))
        raise UsageError(
            f"profile {profile!r} cannot be emulated: edgepack ships no device of that name",
            expected=f"one of {', '.join(known)}",
            advice="--kind loopback, or another --profile",
        )
    return documents.read_toml(path.read_text(), Device, str(path))


def fake_files(device: Device) -> tuple[FakeFile, ...]:
    """The files below /proc and /sys, as a Raspberry Pi's kernel, or Android's, writes them."""
    cores = range(device.cores)
    span = f"0-{device.cores - 1}"
    everywhere = [("possible", span), ("present", span), ("online", span), ("offline", ""), ("kernel_max", "255")]
    files = [FakeFile("proc/cpuinfo", _cpuinfo(device)), FakeFile("proc/meminfo", _meminfo(device.memory_mb * 1024))]
    files += [FakeFile(f"sys/devices/system/cpu/{name}", f"{text}\n") for name, text in everywhere]
    files += [file for core in cores for file in _core(device, core, span)]
    if device.layout == "termux":  # Android shows an app neither its thermal zones nor its device tree
        return tuple(files)
    zone = "sys/class/thermal/thermal_zone0"
    return (
        *files,
        FakeFile(f"{zone}/type", f"{device.thermal.type}\n"),
        FakeFile(f"{zone}/temp", f"{device.thermal.millicelsius}\n"),
        FakeFile("sys/firmware/devicetree/base/model", f"{device.model}\0"),
    )


def _core(device: Device, core: int, span: str) -> tuple[FakeFile, ...]:
    at = f"sys/devices/system/cpu/cpu{core}"
    topology = [
        ("core_id", str(core)),
        ("physical_package_id", "0"),
        ("cluster_id", "0"),
        ("core_siblings", f"{(1 << device.cores) - 1:x}"),
        ("core_siblings_list", span),
        ("package_cpus_list", span),
        ("thread_siblings", f"{1 << core:x}"),
        ("thread_siblings_list", str(core)),
    ]
    frequency = [
        ("cpuinfo_min_freq", str(device.frequency.min_khz)),
        ("cpuinfo_max_freq", str(device.frequency.max_khz)),
        ("scaling_min_freq", str(device.frequency.min_khz)),
        ("scaling_max_freq", str(device.frequency.max_khz)),
        ("scaling_cur_freq", str(device.frequency.max_khz)),
        ("scaling_governor", device.frequency.governor),
        ("related_cpus", " ".join(map(str, range(device.cores)))),
    ]
    return (
        FakeFile(f"{at}/online", "1\n"),
        *(FakeFile(f"{at}/topology/{name}", f"{text}\n") for name, text in topology),
        *(FakeFile(f"{at}/cpufreq/{name}", f"{text}\n") for name, text in frequency),
    )


def _cpuinfo(device: Device) -> str:
    version = "7" if device.architecture == "armhf" else "8"
    title = f"model name\t: {device.cpu.title}\n" if device.cpu.title else ""
    blocks = [
        f"processor\t: {core}\n"
        f"{title}"
        f"BogoMIPS\t: {device.cpu.bogomips}\n"
        f"Features\t: {' '.join(device.cpu.features)}\n"
        f"CPU implementer\t: {device.cpu.implementer}\n"
        f"CPU architecture: {version}\n"
        f"CPU variant\t: {device.cpu.variant}\n"
        f"CPU part\t: {device.cpu.part}\n"
        f"CPU revision\t: {device.cpu.revision}\n\n"
        for core in range(device.cores)
    ]
    if device.layout == "termux":
        return "".join(blocks) + f"Hardware\t: {device.hardware}\n"
    board = f"Hardware\t: {device.hardware}\nRevision\t: {device.revision}\nSerial\t\t: 10000000edge0000\n"
    return "".join(blocks) + board + f"Model\t\t: {device.model}\n"


def _meminfo(total_kb: int) -> str:
    """The device's memory, most of it free: what the host has says nothing about the device."""
    free = total_kb * 8 // 10
    rows = [("MemTotal", total_kb), ("MemFree", free), ("MemAvailable", free), ("SwapTotal", 0), ("SwapFree", 0)]
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows)
