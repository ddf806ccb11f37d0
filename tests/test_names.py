from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InputError
from edgepack.names import check_name, check_version, suggest_name, variant_id, version_key

# semver.org 2.0.0 §11, in its own order
ORDERED = [
    "0.9.9", "1.0.0-0", "1.0.0-1", "1.0.0-10", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta",
    "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1-dev", "1.0.1", "1.2.0", "1.10.0", "2.0.0",
]  # fmt: skip
IDENTIFIER = st.integers(0, 30).map(str) | st.from_regex(r"[0-9]?[a-c-]{1,2}", fullmatch=True)
VERSIONS = st.builds(
    lambda numbers, before, build: (
        ".".join(map(str, numbers))
        + ("-" + ".".join(before) if before else "")
        + ("+" + ".".join(build) if build else "")
    ),
    st.tuples(*[st.integers(0, 3)] * 3),
    st.lists(IDENTIFIER, max_size=3),
    st.lists(st.from_regex(r"[0-9a-c-]{1,3}", fullmatch=True), max_size=2),
)


def precedence(one: str, other: str) -> int:
    """semver.org 2.0.0 §11, clause by clause."""
    (core1, _, before1), (core2, _, before2) = (v.partition("+")[0].partition("-") for v in (one, other))
    numbers1, numbers2 = ([int(n) for n in core.split(".")] for core in (core1, core2))
    if numbers1 != numbers2:
        return -1 if numbers1 < numbers2 else 1
    if not before1 or not before2:
        return bool(before2) - bool(before1)
    parts1, parts2 = before1.split("."), before2.split(".")
    for a, b in zip(parts1, parts2, strict=False):
        if a == b:
            continue
        if a.isdigit() and b.isdigit():
            return -1 if int(a) < int(b) else 1
        if a.isdigit() != b.isdigit():
            return -1 if a.isdigit() else 1
        return -1 if a < b else 1
    return (len(parts1) > len(parts2)) - (len(parts1) < len(parts2))


def test_versions_sort_as_semver_says():
    keys = [version_key(version) for version in ORDERED]
    assert all(one < other for one, other in itertools.pairwise(keys))


@given(VERSIONS, VERSIONS)
def test_the_key_agrees_with_the_specification(one, other):
    assert check_version(one) == one
    key1, key2 = version_key(one), version_key(other)
    assert (key1 > key2) - (key1 < key2) == precedence(one, other)


@given(st.lists(VERSIONS, max_size=6))
def test_build_metadata_does_not_count(versions):
    plain = [version.partition("+")[0] for version in versions]
    assert [version_key(version) for version in versions] == [version_key(version) for version in plain]
    assert sorted(plain, key=functools.cmp_to_key(precedence)) == sorted(plain, key=version_key)


@pytest.mark.parametrize(
    "version", ["", "1", "1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3-a..b", "1.2.3+", "1.2.3\n",
                "١.2.3", "1.2.3-/../x", "1.2.3 ", "-1.2.3", "1.2." + "9" * 80],
)  # fmt: skip
def test_what_is_no_version_is_refused(version):
    with pytest.raises(InputError, match="is not a semantic version"):
        check_version(version)
    with pytest.raises(InputError, match="is not a semantic version"):
        version_key(version)


@given(st.text())
def test_a_name_is_safe_in_a_path_or_refused(name):
    try:
        check_name(name)
    except InputError as error:
        assert "for example" in error.advice
        return
    assert 0 < len(name) <= 64
    assert name == name.lower() and name.isascii()
    assert not set(name) & set("/\\ \t\n'\"$`;&|<>*?[]{}()!#~%\0")
    assert name not in (".", "..") and ".." not in name and name[0].isalnum()


@given(st.text())
def test_the_suggestion_can_be_used(name):
    assert check_name(suggest_name(name))


def test_variant_names_follow_the_grammar():
    assert variant_id("kws", "rpi4", "w8a8", 0.5, "tflite") == "kws.rpi4.w8a8-s50.tflite"
    assert variant_id("kws", "rpi4", "w8a8", 0.5, "tflite", qat=True) == "kws.rpi4.w8a8-s50-qat.tflite"
    assert variant_id("kws", "rpi4", "fp32", 0.0, "onnx") == "kws.rpi4.fp32.onnx"
    assert variant_id("kws", "rpi4", "w8d", 0.05, "onnx") == "kws.rpi4.w8d-s05.onnx"
