from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from edgepack import profile
from edgepack.catalog import load_profiles
from edgepack.errors import InputError
from edgepack.home import shipped
from edgepack.profile import RuntimeRange, resolve

BASE = """
schema = "edgepack.profile/1"
title = "Base"
[device]
machine = "aarch64"
cpu = "cortex-a53"
cores = 4
memory_mb = 1024
[runtimes]
litert = ">=2.1,<3"
onnxruntime = { version = ">=1.19", provider = "system" }
[budget]
max_drop = 0.02
"""
CHILD = """
schema = "edgepack.profile/1"
title = "Child"
extends = "base"
[device]
cpu = "cortex-a76"
[runtimes]
onnxruntime = ">=1.20"
[budget]
max_size_mb = 3
"""


def test_a_profile_extends_another_key_by_key():
    child = resolve("child", {"base": BASE, "child": CHILD}).profile
    assert (child.title, child.device.cpu, child.device.machine, child.device.cores) == (
        "Child",
        "cortex-a76",
        "aarch64",
        4,
    )
    assert (child.budget.max_drop, child.budget.max_size_mb, child.budget.max_p90_ms) == (0.02, 3, None)
    assert child.formats() == ("onnx",)  # runtimes are a preference as a whole, so they are not merged
    assert resolve("base", {"base": BASE}).profile.formats() == ("tflite", "onnx")


def test_every_value_says_where_it_came_from():
    origins = {o.key: (o.value, o.origin) for o in resolve("child", {"base": BASE, "child": CHILD}).origins}
    assert origins["device.cpu"] == ("cortex-a76", "child.toml")
    assert origins["device.cores"] == (4, "base.toml")
    assert origins["budget.max_drop"] == (0.02, "base.toml")
    assert origins["budget.max_p90_ms"] == (None, "default")
    assert origins["runtimes.onnxruntime.version"] == (">=1.20", "child.toml")
    assert origins["runtimes.onnxruntime.provider"] == ("wheels", "default")
    assert origins["compress.precisions"] == (("w8a8", "w8d", "fp16", "fp32"), "default")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("max_drop", "max_dop", "unknown key 'budget.max_dop'"),
        ("litert", "lite-rt", "unknown key 'runtimes.lite-rt'"),
        ("provider", "from", "unknown key 'runtimes.onnxruntime.from'"),
        ('"system"', '"apt"', "runtimes.onnxruntime.provider: invalid enum value 'apt'"),
        (">=2.1,<3", "2 or so", "runtimes.litert: '2 or so' is no version range"),
        ("cores = 4", "cores = 'four'", "device.cores: expected `int`, got `str`"),
        ("cores = 4", "cores = 0", "device: 0 cores"),
        ('machine = "aarch64"', "", "missing required field `machine`"),
        ("profile/1", "profile/2", "schema: invalid enum value 'edgepack.profile/2'"),
        ("max_drop = 0.02", "max_drop = -1", "budget.max_drop: -1.0 is negative"),
        ("[budget]", "[compress]\nsparsities = [1.0]\n[budget]", "compress.sparsities: 1.0 is out of range"),
        (
            "[budget]",
            "[compress]\nprecisions = ['int8']\n[budget]",
            "compress.precisions[0]: invalid enum value 'int8'",
        ),
        ("[runtimes]", "systems = [{title='x', python='3', glibc='2.36'}]\n[runtimes]", "Python '3'"),
        ("[device]", "extends = 'nobody'\n[device]", "extends 'nobody', which does not exist"),
        ("[device]", "extends = ['base']\n[device]", "expected the name of one profile"),
        ("[device]", "extends = 'base'\n[device]", "extends more than"),
        ('litert = ">=2.1,<3"\nonnxruntime', "#", "runtimes: none"),
        ("title =", "title", "not valid TOML"),
    ],
)
def test_a_wrong_profile_is_named(old, new, what):
    assert old in BASE
    with pytest.raises(InputError) as caught:
        resolve("base", {"base": BASE.replace(old, new)})
    assert caught.value.what.startswith("base.toml")
    assert what in caught.value.what


def test_a_mistake_in_what_is_extended_is_an_error_too():
    with pytest.raises(InputError, match="max_dop"):
        resolve("child", {"base": BASE.replace("max_drop", "max_dop"), "child": CHILD})


def test_the_digest_is_of_what_is_meant_not_of_how_it_is_written():
    written = resolve("a", {"a": BASE}).profile
    again = resolve("a", {"a": BASE.replace("cores = 4", "isa = []\ncores = 0x4  # four")}).profile
    other = resolve("a", {"a": BASE.replace("cores = 4", "cores = 5")}).profile
    assert written.digest() == again.digest() != other.digest()


@given(st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]|rc[0-9])?", fullmatch=True))
def test_a_range_allows_what_pip_would_install(version):
    assert RuntimeRange(">=2.1,<3").allows(version) is SpecifierSet(">=2.1,<3").contains(version, prereleases=True)


SHIPPED = {resolved.name: resolved for resolved in load_profiles()}


def test_every_class_of_device_of_the_design_is_shipped():
    assert set(SHIPPED) == {
        "rpi-zero-2w", "rpi3", "rpi4", "rpi5", "rpi-32bit", "android-arm64", "linux-aarch64", "linux-x86_64",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_profile_is_true_of_its_device(name):
    """The dot product and half-precision arithmetic came with ARMv8.2, on the Raspberry Pi with its fifth (Arm ARM DDI 0487)."""
    one = SHIPPED[name].profile
    newest = one.device.cpu == "cortex-a76"
    assert {"dotprod", "fp16"} & set(one.device.isa) == ({"dotprod", "fp16"} if newest else set())
    assert "neon" in one.device.isa or one.device.machine == "x86_64"
    assert one.budget.max_drop is not None
    assert one.budget.max_memory_mb is None or one.budget.max_memory_mb < one.device.memory_mb
    assert 0.0 in one.compress.sparsities
    provided = {wanted.provider for wanted in one.runtimes.values()}
    assert bool(one.device.systems) is ("wheels" in provided)


def test_shipped_profiles_explain_themselves():
    """A number in a budget or an instruction set without a reason beside it cannot be judged by whoever copies the profile."""
    for path in shipped("profiles").glob("*.toml"):
        assert path.read_text().count("#") >= (3 if "rpi" in path.stem else 1), path


def test_what_a_runtime_opens():
    assert [profile.opens(runtime) for runtime in ("litert", "onnxruntime", "tflite-runtime")] == [
        "tflite",
        "onnx",
        "tflite",
    ]
