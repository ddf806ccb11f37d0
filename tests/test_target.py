from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack import target
from edgepack.errors import InputError, UsageError
from edgepack.target import Target, expression, read_inventory, select, write_entry

LAB = """
[defaults]
user = "pi"
profile = "rpi4"
labels = { site = "berlin" }
[targets.kitchen]
host = "kitchen.local"
labels = { ring = "canary" }
[targets.attic]
user = "root"
port = 2222
host_key = "SHA256:abc"
[targets.cellar]
profile = "rpi5"
labels = { site = "paris", ring = "canary" }
"""


def test_an_inventory_is_read():
    kitchen, attic, cellar = read_inventory(LAB, "lab.toml")
    assert kitchen == Target(
        name="kitchen", host="kitchen.local", user="pi", profile="rpi4", labels={"site": "berlin", "ring": "canary"}
    )
    assert (attic.host, attic.port, attic.user, attic.enrolled) == ("attic", 2222, "root", True)
    assert (cellar.profile, cellar.labels, cellar.enrolled) == ("rpi5", {"site": "paris", "ring": "canary"}, False)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[targets.a]\nhost = 'x'", "targets.a: no profile"),
        ("[targets.a]\nprot = 3", "unknown key 'targets.a.prot'"),
        ("[target.a]", "unknown key 'target'"),
        ("[targets.'../a']\nprofile = 'x'", "cannot be used"),
        ("[targets.A]\nprofile = 'x'", "cannot be used"),
        ("[targets.a]\nport = 'x'", "targets.a.port: expected `int`"),
        ("[targets.a]\nlabels.x = 3", "targets.a.labels.x: expected `str`"),
    ],
)
def test_a_wrong_inventory_is_named(text, what):
    with pytest.raises(InputError) as caught:
        read_inventory(text, "lab.toml")
    assert what in caught.value.what


@given(
    st.builds(
        Target,
        name=st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
        host=st.text(min_size=1),
        port=st.integers(0, 65535),
        user=st.text(),
        profile=st.text(min_size=1),
        labels=st.dictionaries(st.text(), st.text()),
        host_key=st.text(),
        root=st.text(),
        health=st.text(),
        restart=st.text(),
        identity=st.text(),
        jump=st.text(),
        board=st.sampled_from([None, "loopback", "emulated"]),
    )
)
def test_a_target_survives_being_written_as_an_entry(one):
    document = target.Document(targets={one.name: write_entry(one)})
    assert target._target(one.name, document.targets[one.name], document.defaults, "f") == one


# A label expression as a tree, with its text and its meaning by brute force.


@dataclass(frozen=True)
class Is:
    key: str
    value: str
    wanted: bool

    def text(self, pad: str) -> str:
        return f"{self.key}{pad}{'=' if self.wanted else '!='}{pad}{self.value}"

    def holds(self, labels: dict[str, str]) -> bool:
        return (labels.get(self.key) == self.value) == self.wanted


@dataclass(frozen=True)
class Not:
    inner: object

    def text(self, pad: str) -> str:
        return (
            f"not{pad or ' '}({self.inner.text(pad)})"
            if isinstance(self.inner, Join)
            else f"not {self.inner.text(pad)}"
        )

    def holds(self, labels: dict[str, str]) -> bool:
        return not self.inner.holds(labels)


@dataclass(frozen=True)
class Join:
    word: str
    parts: tuple

    def text(self, pad: str) -> str:
        def wrapped(part) -> str:
            tighter = not isinstance(part, Join) or (part.word, self.word) == ("and", "or")
            return part.text(pad) if tighter else f"({part.text(pad)})"

        return f" {self.word}{pad or ' '}".join(wrapped(part) for part in self.parts)

    def holds(self, labels: dict[str, str]) -> bool:
        return (all if self.word == "and" else any)(part.holds(labels) for part in self.parts)


KEYS = st.sampled_from(["ring", "site", "order", "not-yet", "and.more", "android", "x"])
VALUES = st.sampled_from(["a", "b", "or", "1.2.3", "not"])
TREES = st.recursive(
    st.builds(Is, KEYS, VALUES, st.booleans()),
    lambda inner: (
        st.builds(Not, inner)
        | st.builds(Join, st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3).map(tuple))
    ),
    max_leaves=8,
)


@given(TREES, st.dictionaries(KEYS, VALUES), st.sampled_from(["", " ", "  "]))
def test_an_expression_means_what_it_says(tree, labels, pad):
    assert expression(tree.text(pad))(labels) is tree.holds(labels)


@given(st.text("ab=!()ndort ", max_size=14))
def test_any_text_is_an_expression_or_a_usage_error(text):
    try:
        predicate = expression(text)
    except UsageError as error:
        assert "label expression" in error.what
        return
    assert predicate({}) in (True, False)


@pytest.mark.parametrize(
    "text",
    ["", "=", "a=", "=b", "a=b c=d", "a=b and", "and a=b", "(a=b", "a=b)", "not", "a=b or or c=d", "a==b", "()", "a b"],
)
def test_a_broken_expression_is_refused(text):
    with pytest.raises(UsageError, match="label expression"):
        expression(text)


@pytest.mark.parametrize("text", ["(" * 9999 + "a=b" + ")" * 9999, "not " * 9999 + "a=b"])
def test_an_absurdly_long_expression_is_refused(text):
    with pytest.raises(UsageError, match="at most"):
        expression(text)


BOARDS = read_inventory(LAB, "lab.toml")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["attic", "kitchen", "attic"], ["kitchen", "attic"]),
        (["ring=canary"], ["kitchen", "cellar"]),
        (["site=berlin and not ring=canary"], ["attic"]),
        (["ring=canary and site=paris", "attic"], ["attic", "cellar"]),
        (["ring!=canary"], ["attic"]),
    ],
)
def test_targets_are_selected_once_in_inventory_order(words, names):
    assert [one.name for one in select(words, BOARDS)] == names


def test_what_selects_nothing_is_an_error():
    with pytest.raises(UsageError, match="no target matches 'ring=nobody'"):
        select(["ring=nobody"], BOARDS)
    with pytest.raises(UsageError) as caught:
        select(["kichen"], BOARDS)
    assert "kitchen" in caught.value.advice
