"""What an emulated board shows of itself, against what a real kernel writes."""

from __future__ import annotations

import tomllib

import pytest

from edgepack.boards import device
from edgepack.catalog import load_profiles
from edgepack.errors import UsageError
from edgepack.home import shipped

SHIPPED = sorted(path.stem for path in (shipped("targets") / "boards").glob("*.toml"))

PI4_CORE_0 = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def shown(profile: str) -> dict[str, str]:
    return {file.path: file.text for file in device.fake_files(device.read(profile))}


def test_a_pi_4_is_shown_as_its_kernel_does():
    files = shown("rpi4")
    assert files["proc/cpuinfo"].startswith(PI4_CORE_0)
    assert files["proc/cpuinfo"].count("processor\t:") == 4
    assert files["proc/cpuinfo"].endswith("Model\t\t: Raspberry Pi 4 Model B Rev 1.1\n")
    assert files["sys/firmware/devicetree/base/model"] == "Raspberry Pi 4 Model B Rev 1.1\0"
    assert files["sys/devices/system/cpu/online"] == "0-3\n"
    assert files["sys/devices/system/cpu/cpu3/cpufreq/scaling_governor"] == "ondemand\n"
    assert files["sys/devices/system/cpu/cpu2/topology/thread_siblings"] == "4\n"
    assert files["proc/meminfo"].splitlines()[0] == "MemTotal:        3977216 kB"


@pytest.mark.parametrize("name", SHIPPED)
def test_no_device_before_the_pi_5_has_what_it_lacks(name):
    described = device.read(name)
    features = set(described.cpu.features)
    assert {"neon", "vfpv4"} <= features if described.architecture == "armhf" else {"fp", "asimd"} <= features
    assert ({"asimddp", "fphp", "atomics"} <= features) == (name == "rpi5")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_device_agrees_with_its_profile(name):
    (resolved,) = load_profiles([name])
    own, wanted = device.read(name), resolved.profile.device
    assert (own.qemu_cpu, own.cores) == (wanted.cpu, wanted.cores)
    assert wanted.machine == {"arm64": "aarch64", "armhf": "armv7l"}[own.architecture]


def test_a_32_bit_kernel_names_the_core():
    files = shown("rpi-32bit")
    assert "model name\t: ARMv7 Processor rev 5 (v7l)\n" in files["proc/cpuinfo"]
    assert "CPU architecture: 7\n" in files["proc/cpuinfo"]


def test_a_phone_shows_an_app_neither_its_heat_nor_its_device_tree():
    files = shown("android-arm64")
    assert not [path for path in files if path.startswith(("sys/class/thermal", "sys/firmware"))]
    assert files["proc/cpuinfo"].endswith("Hardware\t: edgepack,phone\n")


def test_an_unknown_profile_names_those_that_can_be():
    with pytest.raises(UsageError) as refused:
        device.read("linux-x86_64")
    assert "linux-x86_64" in refused.value.what and "rpi4" in refused.value.expected


@pytest.mark.parametrize("name", SHIPPED)
def test_a_description_has_no_key_that_nobody_reads(name):
    text = (shipped("targets") / "boards" / f"{name}.toml").read_text()
    optional = {"architecture", "layout", "port", "note"}
    assert set(tomllib.loads(text)) | optional == set(device.Device.__struct_fields__)
