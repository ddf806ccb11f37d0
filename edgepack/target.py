"""Targets: boards that can be reached, the inventory that names them, and expressions over their labels."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct, field, structs

from edgepack import documents
from edgepack.errors import InputError, UsageError
from edgepack.names import check_name

BoardKind = Literal["loopback", "emulated", "machine"]


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A target as an inventory writes it. Empty values fall back to `[defaults]`, then to the user's ssh_config.

    host: a name, an address or an alias of ssh_config; port, user, identity, jump: where not as ssh_config says
    profile: a shipped one's name, or the path of your own; host_key: as `SHA256:…`, where it was not pinned by enrolling
    root: edgepack's folder on the board, default `~/.edgepack`; labels: for expressions
    health: a command on the board; where it fails after a switch, the release before comes back
    restart: a command on the board that makes the application load the new release
    board: set by `edgepack board up`, never by people
    """

    host: str = ""
    port: int = 0
    user: str = ""
    profile: str = ""
    identity: str = ""
    jump: str = ""
    host_key: str = ""
    root: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    health: str = ""
    restart: str = ""
    board: BoardKind | None = None


class Document(Struct, frozen=True, forbid_unknown_fields=True):
    defaults: Entry = field(default_factory=Entry)
    targets: dict[str, Entry] = field(default_factory=dict)


class Target(Struct, frozen=True, kw_only=True):
    """A reachable board.

    host: a name, an address or an alias of ssh_config; port 0 and user "": as ssh_config says
    host_key: the pinned key as `SHA256:…`; empty means that it was never enrolled
    root: edgepack's folder on the board, default `~/.edgepack`
    health, restart: commands run on the board, declared here and never in a bundle
    board: set where edgepack itself started the board, so that its latencies are marked
    """

    name: str
    host: str
    port: int = 0
    user: str = ""
    profile: str
    identity: str = ""
    jump: str = ""
    host_key: str = ""
    root: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    health: str = ""
    restart: str = ""
    board: BoardKind | None = None

    @property
    def enrolled(self) -> bool:
        return bool(self.host_key)


def read_inventory(text: str, file: str) -> tuple[Target, ...]:
    """The targets of one inventory. Raises InputError naming `file` and the key."""
    document = documents.read_toml(text, Document, file)
    return tuple(_target(name, entry, document.defaults, file) for name, entry in document.targets.items())


def _target(name: str, entry: Entry, defaults: Entry, file: str) -> Target:
    check_name(name, "target")
    values = {key: getattr(entry, key) or getattr(defaults, key) for key in entry.__struct_fields__ if key != "labels"}
    if not values["profile"]:
        raise InputError(
            f"{file}: targets.{name}: no profile",
            expected='profile = "…" there or in [defaults]',
            advice="edgepack profile list",
        )
    values["host"] = values["host"] or name
    return Target(name=name, labels={**defaults.labels, **entry.labels}, **values)


def write_entry(target: Target) -> Entry:
    values = {key: value for key, value in structs.asdict(target).items() if key != "name"}
    return Entry(**values)


def select(words: Sequence[str], known: Sequence[Target]) -> tuple[Target, ...]:
    """The targets that names and label expressions mean, in inventory order, each once.

    A word that contains `=` is an expression (`ring=canary`, `site=berlin and not ring=canary`), else a name.
    Raises UsageError for an unknown name (with the nearest), a broken expression, or one that no target matches.
    """
    chosen: set[str] = set()
    for word in words:
        if "=" in word:
            matches = expression(word)
            found = {target.name for target in known if matches(target.labels)}
            if not found:
                raise UsageError(f"no target matches {word!r}", advice="edgepack target list shows names and labels")
            chosen |= found
        elif any(target.name == word for target in known):
            chosen.add(word)
        else:
            near = difflib.get_close_matches(word, [target.name for target in known], n=1)
            hint = f"perhaps you meant {near[0]!r}?" if near else "edgepack target list shows what is known"
            raise UsageError(f"unknown target {word!r}", expected=_some([one.name for one in known]), advice=hint)
    return tuple(target for target in known if target.name in chosen)


_SHOWN = 8


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"one of {', '.join(names[:_SHOWN])}{more}" if names else "a target of an inventory, and none is known here"


_TOKEN = re.compile(
    r"\s*(?:(?P<paren>[()])|(?P<word>and|or|not)(?![\w.=!-])|(?P<key>[\w.-]+)\s*(?P<op>!?=)\s*(?P<value>[\w.:/-]+))"
)
_MOST_TOKENS = 200
Labels = dict[str, str]
Predicate = Callable[[Labels], bool]


def expression(text: str) -> Predicate:
    """A predicate over labels: `key=value`, `key!=value`, `not`, `and`, `or`, parentheses. Raises UsageError."""
    tokens: list[re.Match[str]] = []
    at = 0
    stripped = text.rstrip()
    while at < len(stripped):
        token = _TOKEN.match(stripped, at)
        if not token:
            raise UsageError(
                f"cannot read the label expression {text!r} at {stripped[at:]!r}",
                expected="for example 'site=berlin and not ring=canary'",
            )
        tokens.append(token)
        at = token.end()
    if len(tokens) > _MOST_TOKENS:
        raise UsageError(f"the label expression has {len(tokens)} parts", expected=f"at most {_MOST_TOKENS}")
    return _Parser(tokens, text).parse()


class _Parser:
    """Recursive descent: or < and < not < comparison."""

    def __init__(self, tokens: list[re.Match[str]], text: str) -> None:
        self._tokens, self._text, self._at = tokens, text, 0

    def parse(self) -> Predicate:
        result = self._either()
        if self._at != len(self._tokens):
            raise self._broken()
        return result

    def _either(self) -> Predicate:
        parts = [self._both()]
        while self._accept("or"):
            parts.append(self._both())
        return lambda labels: any(part(labels) for part in parts)

    def _both(self) -> Predicate:
        parts = [self._one()]
        while self._accept("and"):
            parts.append(self._one())
        return lambda labels: all(part(labels) for part in parts)

    def _one(self) -> Predicate:
        if self._accept("not"):
            inner = self._one()
            return lambda labels: not inner(labels)
        if self._accept("("):
            inner = self._either()
            if not self._accept(")"):
                raise self._broken()
            return inner
        if self._at >= len(self._tokens) or not self._tokens[self._at]["key"]:
            raise self._broken()
        token = self._tokens[self._at]
        self._at += 1
        key, value, wanted = token["key"], token["value"], token["op"] == "="
        return lambda labels: (labels.get(key) == value) is wanted

    def _accept(self, literal: str) -> bool:
        if self._at < len(self._tokens) and literal in (
            self._tokens[self._at]["word"],
            self._tokens[self._at]["paren"],
        ):
            self._at += 1
            return True
        return False

    def _broken(self) -> UsageError:
        return UsageError(
            f"cannot read the label expression {self._text!r}", expected="for example 'site=berlin and not ring=canary'"
        )
