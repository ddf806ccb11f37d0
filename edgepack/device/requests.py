"""What each verb is asked: the agent's view of `edgepack.protocol`, decoded strictly, without msgspec."""

from __future__ import annotations

import re
from typing import Any, Dict, NamedTuple, Tuple, Type, TypeVar

from .faults import Fault

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_KEY = re.compile(r"sha256:[0-9a-f]{64}|system:[a-z-]{1,32}")
_FILE = re.compile(r"[A-Za-z0-9_+@][A-Za-z0-9._+@=,-]{0,159}")
R = TypeVar("R")


class FactsRequest(NamedTuple):
    blobs: Tuple[str, ...] = ()
    verify: bool = False
    probe_system_runtimes: bool = False
    name: str = ""


class BlobPart(NamedTuple):
    digest: str
    size: int
    offset: int = 0
    makes: str = ""
    makes_size: int = 0


class ReceiveRequest(NamedTuple):
    blobs: Tuple[BlobPart, ...]


class WheelBlob(NamedTuple):
    filename: str
    digest: str


class RuntimeRequest(NamedTuple):
    key: str
    runtime: str
    version: str
    wheels: Tuple[WheelBlob, ...] = ()
    system: Tuple[str, ...] = ()
    probe_seconds: float = 120.0
    lock: str = ""


class RuntimeUse(NamedTuple):
    runtime: str
    key: str


class InstallRequest(NamedTuple):
    name: str
    version: str
    release: str
    manifest: str
    variant: str
    variants: Tuple[str, ...]
    runtimes: Tuple[RuntimeUse, ...]
    record: str = ""
    signature: str = ""
    downgrade: bool = False
    selftest_seconds: float = 120.0
    who: str = ""


class SelftestRequest(NamedTuple):
    name: str
    release: str
    variants: Tuple[str, ...] = ()
    seconds: float = 120.0


class ActivateRequest(NamedTuple):
    name: str
    release: str
    expected: str
    downgrade: bool = False
    restart: str = ""
    health: str = ""
    health_seconds: float = 60.0
    keep: int = 2
    who: str = ""


class RollbackRequest(NamedTuple):
    name: str
    leave: str
    restart: str = ""
    health: str = ""
    health_seconds: float = 60.0
    who: str = ""


class RemoveRequest(NamedTuple):
    name: str
    release: str = ""
    who: str = ""


class TrustRequest(NamedTuple):
    device: str
    labels: Tuple[str, ...] = ()
    keys: Tuple[str, ...] = ()
    revoke: Tuple[str, ...] = ()
    who: str = ""


class AuthorizeRequest(NamedTuple):
    public_key: str
    locks: Tuple[str, ...] = ()
    hooks: Tuple[str, ...] = ()
    write: bool = True
    who: str = ""
    signed_agents: bool = False


_PARTS: Dict[str, Any] = {
    "Tuple[BlobPart, ...]": BlobPart,
    "Tuple[WheelBlob, ...]": WheelBlob,
    "Tuple[RuntimeUse, ...]": RuntimeUse,
}
_PLAIN: Dict[str, Any] = {"str": str, "bool": bool, "int": int, "float": (int, float)}
_CHECKED = {
    "digest": "digest",
    "makes": "digest",
    "manifest": "digest",
    "name": "name",
    "device": "name",
    "key": "key",
    "release": "digest",
    "expected": "digest",
    "leave": "digest",
    "blob": "digest",
}


def decode(kind: Type[R], raw: Any) -> R:
    """`raw` as a `kind`. Raises Fault for a missing field, a wrong type, or a string that may not become part of a path."""
    if not isinstance(raw, dict):
        raise Fault("bug", f"{kind.__name__}: no JSON object")
    fields: Any = kind
    values = {}
    for name, annotation in fields.__annotations__.items():
        if name in raw:
            values[name] = _value(raw[name], _spelled(annotation), f"{kind.__name__}.{name}")
        elif name not in fields._field_defaults:
            raise Fault("bug", f"{kind.__name__}.{name} is missing")
    decoded: R = fields(**values)
    for name, rule in _CHECKED.items():
        if values.get(name):
            check(values[name], rule)
    return decoded


def check(text: str, rule: str) -> str:
    """`text` if it keeps the rule: `digest`, `key` (of a runtime), `name` (of a release) or `file`. Raises Fault otherwise."""
    pattern = {"digest": _DIGEST, "key": _KEY, "name": _NAME, "file": _FILE}[rule]
    if not pattern.fullmatch(text) or ".." in text:
        raise Fault("input", f"{text[:200]!r} cannot be used as a {rule} on a board", expected=pattern.pattern)
    return text


def _spelled(annotation: Any) -> str:
    return str(getattr(annotation, "__forward_arg__", annotation))


def _value(value: Any, annotation: str, where: str) -> Any:
    if annotation in _PLAIN:
        if not isinstance(value, _PLAIN[annotation]) or (isinstance(value, bool) and annotation != "bool"):
            raise Fault("bug", f"{where}: {type(value).__name__}, expected {annotation}")
        return value
    if not isinstance(value, list):
        raise Fault("bug", f"{where}: {type(value).__name__}, expected a list")
    part = _PARTS.get(annotation)
    if part is not None:
        return tuple(decode(part, item) for item in value)
    if not all(isinstance(item, str) for item in value):
        raise Fault("bug", f"{where}: expected a list of strings")
    return tuple(value)
