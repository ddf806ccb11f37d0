"""TOML that people write, decoded strictly: an unknown key is an error with a suggestion, a wrong value names its key."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from edgepack.errors import InputError

T = TypeVar("T")
Tables = dict[str, Any]
Layer = tuple[str, Tables]
"""Where values come from (a file, `flag`) and the raw tables it sets; earlier layers win."""


class Origin(msgspec.Struct, frozen=True):
    """One resolved value and who set it (`default` where nobody did)."""

    key: str
    value: Any
    origin: str


_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?P<key>`key` in )?`\$\.?(?P<at>[^`]*)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>[^`]*)`")
_STEP = re.compile(r"\[\.\.\.\]|\[\d+\]|[^.\[]+")


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The raw tables of a TOML document. Raises InputError naming `file` and the line."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{file}: not valid TOML: {error}", advice=f"correct that line of {file}") from None


def convert(raw: Any, kind: type[T], file: str) -> T:
    """Raw tables to a typed value. Raises InputError naming `file` and the key, with the nearest known key."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _explain(str(error), raw, kind, file) from None


def read_toml(text: str, kind: type[T], file: str) -> T:
    return convert(parse_toml(text, file), kind, file)


class _Place(msgspec.Struct, frozen=True):
    """Where in a document something is wrong, spelt as people write it, with the value there and what it was to be."""

    path: str
    value: Any
    kind: Any

    def inner(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def _explain(message: str, raw: Any, kind: Any, file: str) -> InputError:
    found = _MESSAGE.fullmatch(message)
    assert found is not None
    what, place = found["what"], _find(found["at"] or "", raw, kind)
    if unknown := _UNKNOWN.fullmatch(what):
        here = sorted(known_keys(place.kind, deep=False))
        return _unknown_key(file, place.inner(unknown["key"]), unknown["key"], here, sorted(known_keys(kind)))
    if found["key"]:
        choices = _choices(get_args(place.kind)[0])
        wrong = next(key for key in place.value if key not in choices) if choices else "a key"
        return _unknown_key(file, place.inner(wrong), wrong, choices, choices)
    where = f"{file}: {place.path}: " if place.path else f"{file}: "
    return InputError(
        f"{where}{what[:1].lower()}{what[1:]}",
        expected=" or ".join(map(repr, _choices(place.kind))),
        advice=f"correct {place.path} in {file}" if place.path else f"correct {file}",
    )


def _unknown_key(file: str, path: str, key: str, here: Sequence[str], anywhere: Sequence[str]) -> InputError:
    near = difflib.get_close_matches(key, here) or difflib.get_close_matches(key, anywhere)
    best = next((word for word in near if word[:1] == key[:1]), near[0] if near else "")  # few mistype the first letter
    advice = f"perhaps you meant {best!r}?" if best else f"known keys: {', '.join(here)}"
    return InputError(f"{file}: unknown key {path!r}", advice=advice)


def _find(at: str, raw: Any, kind: Any) -> _Place:
    """Follow msgspec's path; where it says only that some key of a table is wrong (`[...]`), find which."""
    path = ""
    for step in _STEP.findall(at):
        kind = _struct_or_itself(kind)
        if step == "[...]":
            kind = get_args(kind)[1]
            step = next(key for key, value in raw.items() if not _fits(value, kind))
            raw, path = raw[step], f"{path}.{step}"
        elif step.startswith("["):
            kind, raw, path = get_args(kind)[0], raw[int(step[1:-1])], path + step
        else:
            kind = next(field.type for field in msgspec.structs.fields(kind) if field.encode_name == step)
            raw, path = raw[step], f"{path}.{step}" if path else step
    return _Place(path, raw, _struct_or_itself(kind))


def _struct_or_itself(kind: Any) -> Any:
    """`X` of `X | None`."""
    inner = [item for item in get_args(kind) if item is not type(None)]
    return inner[0] if get_origin(kind) in (Union, UnionType) and len(inner) == 1 else kind


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _choices(kind: Any) -> list[str]:
    return [str(value) for value in get_args(kind)] if get_origin(kind) is Literal else []


def known_keys(kind: Any, *, deep: bool = True) -> set[str]:
    """Every key that a struct knows and, if `deep`, the structs inside it: what a suggestion may be drawn from."""
    keys: set[str] = set()
    seen: set[Any] = set()
    stack = [kind]
    while stack:
        item = stack.pop()
        if isinstance(item, type) and issubclass(item, msgspec.Struct) and item not in seen:
            seen.add(item)
            for field in msgspec.structs.fields(item):
                keys.add(field.encode_name)
                stack += [field.type] if deep else []
        stack.extend(getattr(item, "__args__", ()))
    return keys


def split(raw: Any, kind: Any, besides: Sequence[str] = ()) -> tuple[Any, Tables]:
    """Raw JSON as what `kind` knows of it, and a tree of the rest: keys that no struct in it has, lists as their indices.

    besides: fields of the outermost struct that are no keys of the JSON
    """
    kind = _tagged(raw, kind)
    if isinstance(raw, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        inner = {f.encode_name: f.type for f in msgspec.structs.fields(kind) if f.encode_name not in besides}
        if tag := kind.__struct_config__.tag_field:
            inner[tag] = str
        rest: Tables = {key: value for key, value in raw.items() if key not in inner}
        parts = {key: split(raw[key], inner[key]) for key in raw if key in inner}
    elif isinstance(raw, dict) and get_origin(kind) is dict:
        rest, parts = {}, {key: split(value, get_args(kind)[1]) for key, value in raw.items()}
    elif isinstance(raw, list) and get_origin(kind) in (tuple, list):
        items = [split(value, get_args(kind)[0]) for value in raw]
        return [known for known, _ in items], {str(i): rest for i, (_, rest) in enumerate(items) if rest}
    else:
        return raw, {}
    return {key: known for key, (known, _) in parts.items()}, rest | {
        key: more for key, (_, more) in parts.items() if more
    }


def _tagged(raw: Any, kind: Any) -> Any:
    """Of a union, the struct that `raw` is one of; anything else as it is."""
    structs = [item for item in get_args(kind) if isinstance(item, type) and issubclass(item, msgspec.Struct)]
    if not structs or get_origin(kind) not in (Union, UnionType) or not isinstance(raw, dict):
        return kind
    tagged = [item for item in structs if raw.get(item.__struct_config__.tag_field or "") == item.__struct_config__.tag]
    return tagged[0] if tagged else structs[0]


def overlay(known: Any, rest: Tables) -> Any:
    """What `split` took apart, together again. What it knew wins; the rest of a list's item goes with its index."""
    if isinstance(known, (list, tuple)):
        return [overlay(item, rest.get(str(i), {})) for i, item in enumerate(known)]
    if not isinstance(known, dict):
        return known
    return {**rest, **{key: overlay(value, rest.get(key, {})) for key, value in known.items()}}


def merge(under: Tables, over: Tables, whole: Sequence[str] = ()) -> Tables:
    """`over` wins; tables merge key by key, except the top-level keys in `whole`, which are replaced entirely."""
    merged = dict(under)
    for key, value in over.items():
        if key not in whole and isinstance(value, dict) and isinstance(under.get(key), dict):
            merged[key] = merge(under[key], value)
        else:
            merged[key] = value
    return merged


def origins(
    value: Any, layers: Sequence[Layer], path: tuple[str, ...] = (), whole: Sequence[str] = ()
) -> Iterator[Origin]:
    """Every leaf of a resolved value with the first layer that holds it; `whole` as it was merged with."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            setters = [layer for layer in layers if key in layer[1]][:1] if not path and key in whole else layers
            yield from origins(inner, setters, (*path, key))
        return
    origin = next((name for name, tables in layers if _holds(tables, path)), "default")
    yield Origin(".".join(path), value, origin)


def _holds(tables: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        if not isinstance(tables, dict) or key not in tables:
            return False
        tables = tables[key]
    return True
