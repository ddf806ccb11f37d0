"""The agent's own decoding, comparing and reading, where it must agree with the host's libraries without having them."""

from __future__ import annotations

import json
import types
import typing
from contextlib import nullcontext
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from edgepack import protocol
from edgepack.device import activate, facts, journal, requests, runtime, store
from edgepack.device.faults import Fault
from edgepack.protocol import Facts

REQUESTS = [
    name for name in vars(requests) if name.endswith("Request") or name in ("BlobPart", "WheelBlob", "RuntimeUse")
]
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize("name", REQUESTS)
def test_both_sides_mean_the_same_request(name: str) -> None:
    theirs, ours = getattr(requests, name), getattr(protocol, name)
    fields = {field.name: field for field in msgspec.structs.fields(ours)}
    assert set(theirs._fields) == set(fields)
    for field, default in theirs._field_defaults.items():
        assert fields[field].default == default, field


def _sample(kind: Any) -> Any:
    """A value of every field's type, as the host encodes it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return kind(**{field: _named(field, _sample(hint)) for field, hint in hints.items()})
    if typing.get_origin(kind) is tuple:
        return (_sample(typing.get_args(kind)[0]),)
    if typing.get_origin(kind) is typing.Literal:
        return typing.get_args(kind)[0]
    assert not isinstance(kind, types.UnionType)
    return {str: "x", int: 3, float: 1.5, bool: True}[kind]


def _named(field: str, value: Any) -> Any:
    return DIGEST if field in ("digest", "makes", "release", "manifest", "expected", "leave", "key") else value


@pytest.mark.parametrize("name", REQUESTS)
def test_what_the_host_encodes_the_agent_decodes(name: str) -> None:
    request = _sample(getattr(protocol, name))
    decoded = requests.decode(getattr(requests, name), json.loads(msgspec.json.encode(request)))
    assert json.loads(msgspec.json.encode(request)) == json.loads(json.dumps(_plain(decoded)))


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {key: _plain(inner) for key, inner in value._asdict().items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", ["..", "a/b", "", "A", "-x", "a..b", "x" * 65, "a\n", "~", "é"])
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(Fault):
        requests.check(name, "name")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_no_request_crashes_the_decoder(raw: Any) -> None:
    for name in REQUESTS:
        try:
            requests.decode(getattr(requests, name), raw)
        except Fault:
            continue


NUMBERS = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))


@given(
    NUMBERS, st.lists(st.tuples(st.sampled_from([">=", "<=", "==", "!=", ">", "<"]), NUMBERS), min_size=1, max_size=3)
)
def test_version_ranges_agree_with_packaging(version: str, clauses: list[tuple[str, str]]) -> None:
    wanted = ",".join(sign + number for sign, number in clauses)
    assert runtime.allowed(version, wanted) == SpecifierSet(wanted).contains(version, prereleases=True)


@pytest.mark.parametrize(
    ("version", "wanted", "holds"),
    [
        ("2.14.0", ">=2.1,<3", True),
        ("2.1.0.post1", ">=2.1", True),
        ("1.24.2", "~=1.20", True),
        ("2.0", "~=1.20", False),
        ("1.4.9", "==1.4.*", True),
        ("1.5", "==1.4.*", False),
    ],
)
def test_version_ranges(version: str, wanted: str, holds: bool) -> None:
    assert runtime.allowed(version, wanted) is holds


def test_versions_are_ordered_as_semver_says() -> None:
    order = "0.9.0 1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0 1.2.0 1.10.0"
    versions = order.split()
    assert sorted(set(versions), key=activate.version_key) == versions
    assert activate.version_key("1.0.0+a") == activate.version_key("1.0.0+b")


MOUNTS = """\
/dev/root / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sda1 /media/usb\\040stick vfat rw 0 0
/dev/mmcblk0p1 /boot vfat rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/pi/.edgepack", "ext4"),
        ("/boot/x", "vfat"),
        ("/bootleg", "ext4"),
        ("/media/usb stick/e", "vfat"),
        ("/run", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert facts.filesystem(path, MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "refused"), [("vfat", True), ("exfat", True), ("ext4", False), ("f2fs", False), ("", False)]
)
def test_no_release_is_activated_on_fat(kind: str, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "_read", lambda *paths: f"/dev/x / {kind or 'none'} rw 0 0\n")
    with pytest.raises(Fault, match=kind) if refused else nullcontext():
        facts.ensure_links("/home/pi/.edgepack")


def test_cpu_facts_of_a_raspberry_pi() -> None:
    text = "processor\t: 0\nFeatures\t: fp asimd crc32\nCPU part\t: 0xd08\n\nprocessor\t: 1\nCPU part\t: 0xd09\nModel\t: Pi 4\n"
    found = facts.cpu_facts(text)
    assert (found["cpu_model"], found["cpu_part"]) == ("Pi 4", "0xd08")
    assert found["cpu_features"] == ["asimd", "crc32", "fp"]


def test_facts_are_what_the_protocol_says(tmp_path: Any) -> None:
    raw = facts.facts(str(tmp_path / "nothing-yet"), requests.FactsRequest(blobs=(DIGEST,)))
    found = msgspec.convert(json.loads(json.dumps(raw)), Facts, strict=True)
    assert set(raw) <= set(Facts.__struct_fields__)
    assert found.releases == () and found.blobs[0].complete is False and found.memory_kb > 0 and found.libc_version
    assert not (tmp_path / "nothing-yet").exists(), "asking for facts changed the board"


def test_the_log_is_a_chain_that_shows_a_change(tmp_path: Any) -> None:
    for number in range(3):
        journal.append(str(tmp_path), "test", what=str(number))
    assert journal.check(str(tmp_path)) == (3, True)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text().replace('"what": "1"', '"what": "2"'))
    assert not journal.check(str(tmp_path)).intact


def test_a_torn_last_line_stays_visible_and_does_not_stop_the_log(tmp_path: Any) -> None:
    for number in range(2):
        journal.append(str(tmp_path), "test", what=str(number))
    log = tmp_path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    journal.append(str(tmp_path), "after")
    assert journal.check(str(tmp_path)) == (3, False)
    assert json.loads(log.read_text().splitlines()[-1])["verb"] == "after"


def test_a_broken_state_file_is_named(tmp_path: Any) -> None:
    (tmp_path / "state.json").write_text('{"names": ')
    with pytest.raises(Fault, match=r"state\.json"):
        store.read_lines(str(tmp_path))
