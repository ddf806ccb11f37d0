from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct, convert, field, to_builtins

from edgepack import documents
from edgepack.errors import InputError


class Inner(Struct, forbid_unknown_fields=True):
    colour: Literal["red", "green"] = "red"
    weight: float | None = None


class Outer(Struct, forbid_unknown_fields=True):
    title: str
    inner: Inner = field(default_factory=Inner)
    many: tuple[Inner, ...] = ()
    named: dict[str, Inner] = field(default_factory=dict)
    kinds: dict[Literal["one", "two"], int] = field(default_factory=dict)


CASES = {
    "not TOML": ("title = ", "not valid TOML", "correct that line"),
    "unknown key": ('titel = "x"', "unknown key 'titel'", "perhaps you meant 'title'?"),
    "unknown key of a table": ('title = "x"\ninner.color = "red"', "unknown key 'inner.color'", "'colour'"),
    "unknown key of a list's table": ('title = "x"\nmany = [{}, {wheight = 1.0}]', "'many[1].wheight'", "'weight'"),
    "unknown key of a named table": ('title = "x"\n[named.a]\n[named.b]\nzzz = 1', "'named.b.zzz'", "colour, weight"),
    "a key from another table": ('title = "x"\ncolour = "red"', "'colour'", "'colour'"),
    "a key that is none of a few": ('title = "x"\nkinds.tow = 1', "unknown key 'kinds.tow'", "'two'"),
    "missing": ("", "missing required field `title`", "correct FILE"),
    "wrong type": ("title = 3", "title: expected `str`, got `int`", "correct title in FILE"),
    "wrong type in a list": ('title = "x"\nmany = [{weight = "heavy"}]', "many[0].weight: expected", "many[0].weight"),
    "wrong value": ('title = "x"\ninner.colour = "blue"', "inner.colour: invalid enum value 'blue'", "inner.colour"),
    "wrong value of a named table": ('title = "x"\nnamed.b.colour = 1', "named.b.colour:", "named.b.colour"),
    "a value for a table": ('title = "x"\ninner = 1', "inner: expected `object`", "inner"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors_name_the_file_and_the_key(case):
    text, what, advice = CASES[case]
    with pytest.raises(InputError) as caught:
        documents.read_toml(text, Outer, "FILE")
    assert caught.value.what.startswith("FILE: ")
    assert what in caught.value.what
    assert advice in caught.value.advice


def test_a_wrong_value_lists_the_right_ones():
    with pytest.raises(InputError) as caught:
        documents.read_toml('title = "x"\ninner.colour = "blue"', Outer, "FILE")
    assert caught.value.expected == "'red' or 'green'"


def test_a_right_document_is_read():
    read = documents.read_toml('title = "x"\nmany = [{colour = "green"}]\n[named.a]\nweight = 2', Outer, "FILE")
    assert read == Outer("x", many=(Inner("green"),), named={"a": Inner(weight=2.0)})


KEYS = st.sampled_from(["title", "inner", "many", "named", "colour", "weight", "x", "y"])
TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(KEYS, st.integers(), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | st.integers(), max_size=3),
    max_leaves=8,
)


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if isinstance(value, dict) and value:
        return {key: leaf for k, inner in value.items() for key, leaf in leaves(inner, (*path, k)).items()}
    return {path: value}


@given(TABLES, TABLES)
def test_merging_keeps_the_upper_layer(under, over):
    merged = documents.merge(under, over)
    assert documents.merge(merged, over) == merged
    assert documents.merge({}, over) == over
    for path, value in leaves(over).items():
        if path and not isinstance(value, dict):
            assert leaves(merged)[path] == value


@given(TABLES, TABLES, TABLES)
def test_every_value_comes_from_the_first_layer_that_has_it(first, second, other):
    merged = documents.merge(documents.merge(other, second), first)
    for origin in documents.origins(merged, [("first", first), ("second", second)]):
        path = tuple(origin.key.split(".")) if origin.key else ()
        if isinstance(origin.value, dict):
            continue
        assert leaves(merged)[path] == origin.value
        if origin.origin == "default":
            assert leaves(other)[path] == origin.value


def test_tables_that_are_replaced_whole():
    merged = documents.merge(
        {"runtimes": {"a": 1, "b": 2}, "x": {"a": 1}}, {"runtimes": {"c": 3}, "x": {"b": 2}}, ("runtimes",)
    )
    assert merged == {"runtimes": {"c": 3}, "x": {"a": 1, "b": 2}}


class Circle(Struct, tag="circle"):
    radius: float


class Square(Struct, tag="square"):
    side: float = 1.0


class Drawing(Struct):
    name: str
    shapes: tuple[Circle | Square, ...] = ()
    frame: Inner | None = None
    parts: dict[str, Inner] = field(default_factory=dict)


WORDS = st.text("abcdef", min_size=1, max_size=4)
FREE = st.recursive(
    st.integers() | st.text(max_size=3) | st.none(),
    lambda i: st.lists(i, max_size=2) | st.dictionaries(WORDS, i),
    max_leaves=4,
)
EXTRA = st.dictionaries(WORDS.map("x-".__add__), FREE, max_size=2)
INNER = st.fixed_dictionaries(
    {}, optional={"colour": st.sampled_from(["red", "green"]), "weight": st.none() | st.floats(0, 9)}
)
SHAPE = st.fixed_dictionaries({"type": st.just("circle"), "radius": st.floats(0, 9)}) | st.fixed_dictionaries(
    {"type": st.just("square")}, optional={"side": st.floats(0, 9)}
)


def extended(strategy):
    return st.builds(lambda known, extra: {**extra, **known}, strategy, EXTRA)


DRAWINGS = extended(
    st.fixed_dictionaries(
        {"name": WORDS},
        optional={
            "shapes": st.lists(extended(SHAPE), max_size=3),
            "frame": st.none() | extended(INNER),
            "parts": st.dictionaries(WORDS, extended(INNER), max_size=2),
        },
    )
)


@given(DRAWINGS)
def test_what_is_not_known_survives_wherever_it_is(raw):
    known, rest = documents.split(raw, Drawing)
    drawing = convert(known, Drawing, strict=True)  # Inner forbids unknown fields: they are gone
    again = documents.overlay(to_builtins(drawing), rest)
    known2, rest2 = documents.split(again, Drawing)
    assert (convert(known2, Drawing), rest2) == (drawing, rest)
    assert contains(again, raw)


def contains(whole: Any, part: Any) -> bool:
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part
