from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from edgepack import digest

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(st.binary())
def test_a_digest_is_sha256_however_the_bytes_are_read(data):
    assert digest.of_bytes(data) == "sha256:" + hashlib.sha256(data).hexdigest()
    assert digest.is_digest(digest.of_bytes(data))
    assert digest.hex_of(digest.of_bytes(data)) == hashlib.sha256(data).hexdigest()


def test_files_and_folders(tmp_path):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "x"
    file.write_bytes(b"1" * (1 << 21))
    assert digest.of_file(file) == digest.of_tree(file) == digest.of_bytes(file.read_bytes())
    before = digest.of_tree(tmp_path)
    (tmp_path / "empty").mkdir()
    assert digest.of_tree(tmp_path) == before
    file.rename(tmp_path / "a" / "y")
    renamed = digest.of_tree(tmp_path)
    (tmp_path / "a" / "y").write_bytes(b"2")
    assert len({before, renamed, digest.of_tree(tmp_path)}) == 3


@given(JSON)
def test_canonical_json_means_the_same_and_is_one(value):
    data = digest.canonical_json(value)
    assert json.loads(data) == value
    assert digest.canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=6).filter(lambda d: "\ud800" not in d))
def test_the_order_of_keys_does_not_matter(value):
    value = {key: number % 1000 for key, number in value.items()}
    assert digest.of_value(value) == digest.of_value(dict(reversed(value.items())))


def test_what_is_no_digest():
    good = "sha256:" + "0a" * 32
    assert digest.is_digest(good)
    for bad in (
        "",
        "sha256:",
        good[:-1],
        good + "0",
        good.upper(),
        good + "\n",
        "sha512" + good[6:],
        "sha256:../" + "0" * 61,
    ):
        assert not digest.is_digest(bad)
