"""The door for a restricted key: `python3 agent.pyz serve ROOT` as the forced command of a line in authorized_keys.

sshd then runs this whatever a client asks for, and says in SSH_ORIGINAL_COMMAND what that was. It is never run: it is read as one
of the two command lines of `edgepack.remote.commands`, and only their arguments are used.

ROOT/door.json, or /etc/edgepack/door.json where it exists, says what such a key may bring that would run as this user:

    agents   digests of agents, in hex: this one may be replaced by these
    signed_agents   true: and by those that a key which this board trusts has signed (endorsed.py)
    locks    digests of runtime locks: no other wheels are installed
    hooks    commands that may restart and check an application
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shlex
import sys
from typing import Any, Dict, List, NamedTuple, NoReturn, Tuple

from . import journal, store
from .faults import Fault
from .requests import AuthorizeRequest

SYSTEM = "/etc/edgepack/door.json"
VERBS = (
    "facts",
    "receive",
    "runtime",
    "install",
    "selftest",
    "activate",
    "rollback",
    "status",
    "bench",
    "bench-pair",
    "scenario",
    "accuracy",
)
RUN, INSTALL = "edgepack-run", "edgepack-install"
NO_AGENT, WANTS_SIGNED = 97, 96

_HEX = re.compile(r"[0-9a-f]{64}")
_SECONDS = re.compile(r"[0-9]{1,6}")
_KEY = re.compile(r"((?:sk-)?(?:ssh|ecdsa)-[a-z0-9@.-]{1,60}) ([A-Za-z0-9+/]{16,16000}={0,2})(?: ([ -~]{1,200}))?")
_LARGEST_AGENT = 8 << 20


class Rules(NamedTuple):
    agents: Tuple[str, ...] = ()
    locks: Tuple[str, ...] = ()
    hooks: Tuple[str, ...] = ()
    signed_agents: bool = False


class Asked(NamedTuple):
    """digest: the agent's, in hex; verb: empty for that agent's arrival; endorsement: what vouches for it then, or nothing"""

    digest: str
    verb: str = ""
    seconds: str = ""
    endorsement: str = ""


def enter(arguments: List[str], original: str) -> List[str]:
    """The arguments with which this agent answers what was asked for: its own name, the verb, ROOT, seconds.

    Does not return where an agent arrives, or where another known one is asked for and takes over. Raises Fault.
    """
    root = os.path.abspath(os.path.expanduser(arguments[2]))
    asked = parse(original, root)
    rules = read(root)
    if not asked.verb:
        _take(root, asked, rules)
    own = store.hex_of(store.hash_file(arguments[0]))
    if asked.digest != own:
        _hand_over(root, asked.digest, rules)
    return [arguments[0], asked.verb, root, asked.seconds]


def parse(original: str, root: str) -> Asked:
    """What a client asked for. Raises Fault for anything but edgepack's own two commands on this very root."""
    try:
        words = shlex.split(original)
    except ValueError:
        words = []
    if words[:2] != ["sh", "-c"] or len(words) < 7 or os.path.abspath(os.path.expanduser(words[4])) != root:
        raise _closed(original)
    digest, rest = words[5], words[6:]
    if not _HEX.fullmatch(digest):
        raise _closed(original)
    if words[3] == INSTALL and len(rest) in (1, 2):
        return Asked(digest, endorsement=rest[1] if len(rest) == 2 else "")
    if words[3] == RUN and len(rest) == 2 and rest[0] in VERBS and _SECONDS.fullmatch(rest[1]):
        return Asked(digest, rest[0], rest[1])
    raise _closed(original)


def ensure_allowed(root: str, verb: str, raw: Any) -> None:
    """Raises Fault for a request that would run something as this user which nobody allowed."""
    rules = read(root)
    if verb in ("activate", "rollback"):
        for name in ("restart", "health"):
            command = raw.get(name, "")
            if command and command not in rules.hooks:
                raise Fault(
                    "trust",
                    f"this key may not run the {name} command {str(command)[:200]!r} here",
                    expected=" or ".join(repr(one) for one in rules.hooks) or "no command at all",
                    advice="edgepack target authorize NAME KEY.pub, with a login that is not restricted",
                )
    if verb.startswith("bench") and (raw.get("protocol") or {}).get("governor"):
        raise Fault("trust", "this key may not change the CPU governor here", advice="measure without --governor")
    key = str(raw.get("key", ""))
    if verb == "runtime" and not key.startswith("system:") and (key not in rules.locks or not raw.get("lock")):
        raise Fault(
            "trust",
            f"this key may not install the wheels of the runtime lock {key[:80]} here",
            expected="a lock that was known when the key was authorized",
            advice="edgepack target authorize NAME KEY.pub, with a login that is not restricted",
        )


def read(root: str) -> Rules:
    """Raises Fault where the file is broken."""
    path = SYSTEM if os.path.lexists(SYSTEM) else os.path.join(root, "door.json")
    raw = store.read_json(path) or {}
    agents, locks, hooks = (tuple(str(one) for one in raw.get(name, ())) for name in ("agents", "locks", "hooks"))
    return Rules(agents, locks, hooks, raw.get("signed_agents") is True)


def authorize(root: str, request: AuthorizeRequest, agent: str) -> Dict[str, Any]:
    """Let a key in through the door alone; what was known before stays known. Doing it again changes nothing.

    agent: the file that stands at the door from now on. Raises Fault for what is no key, or one that already opens a shell.
    """
    found = _KEY.fullmatch(request.public_key.strip())
    if found is None or not _is_base64(found.group(2)):
        raise Fault(
            "input", f"{request.public_key[:80]!r} is no public key", expected="the line of an OpenSSH .pub file"
        )
    line = _line(root, os.path.abspath(agent), found.group(0))
    with store.locked(root, "authorize"):
        before = read(root)
        own = store.hex_of(store.hash_file(agent))
        agents = tuple(sorted({*before.agents, own}))
        locks, hooks = tuple(sorted({*before.locks, *request.locks})), tuple(sorted(set(request.hooks)))
        rules = Rules(agents, locks, hooks, request.signed_agents)
        store.write_json(os.path.join(root, "door.json"), rules._asdict())
        if request.write:
            _let_in(os.path.expanduser("~/.ssh"), line, found.group(2))
        journal.append(root, "authorize", who=request.who, key=found.group(2)[-16:], written=str(request.write).lower())
    return {"line": line, "written": request.write}


def _line(root: str, agent: str, key: str) -> str:
    command = " ".join(shlex.quote(word) for word in (sys.executable, "-I", "-S", agent, "serve", root))
    if "\n" in command:
        raise Fault("input", "a path on this board holds a line break", expected="another `root`")
    return 'restrict,command="{}" {}'.format(command.replace('"', '\\"'), key)


def _let_in(folder: str, line: str, blob: str) -> None:
    """Put the line into authorized_keys, in the place of an older one for the same key."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.realpath(os.path.join(folder, "authorized_keys"))
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        lines = []
    kept = []
    for number, one in enumerate(lines, 1):
        ours = one.startswith("restrict,command=") and " serve " in one
        if blob in one.split() and not ours:
            raise Fault(
                "input",
                f"that key already opens more than edgepack here: line {number} of {path}",
                expected="a key of its own for deliveries",
                advice="ssh-keygen -t ed25519 makes one; or remove that line",
            )
        if blob not in one.split():
            kept.append(one)
    text = "\n".join([*kept, line]) + "\n"
    store.write_file(path, text.encode("utf-8", "surrogateescape"))
    os.chmod(path, 0o600)


def _take(root: str, asked: Asked, rules: Rules) -> NoReturn:
    """Store the agent that arrives on standard input, if it is a known one, or comes with a signature where that is enough."""
    known = asked.digest in rules.agents
    if not known and not (rules.signed_agents and asked.endorsement):
        raise _unknown(asked.digest)
    data = sys.stdin.buffer.read(_LARGEST_AGENT + 1)
    if hashlib.sha256(data).hexdigest() != asked.digest:
        raise Fault("board", "the agent arrived damaged or cut off", advice="run this again")
    if known:
        folder = os.path.join(root, "agent", asked.digest)
        os.makedirs(folder, exist_ok=True)
        store.write_file(os.path.join(folder, "agent.pyz"), data)
    else:
        from . import endorsed

        endorsed.admit(root, asked.digest, asked.endorsement, data)
    sys.stdout.write(json.dumps({}) + "\n")
    sys.stdout.flush()
    sys.exit(0)


def _hand_over(root: str, digest: str, rules: Rules) -> NoReturn:
    """Let another known agent stand at the door, for this once, or one that was let in for its signature."""
    if digest not in rules.agents:
        from . import endorsed

        if not rules.signed_agents:
            raise _unknown(digest)
        if not endorsed.is_endorsed(root, digest):
            sys.exit(WANTS_SIGNED)
    path = os.path.join(root, "agent", digest, "agent.pyz")
    if not os.path.exists(path):
        sys.exit(NO_AGENT)
    if store.hash_file(path) != "sha256:" + digest:
        raise Fault("trust", f"{path} changed", expected="sha256:" + digest, advice="remove it and push again")
    os.execv(sys.executable, [sys.executable, "-I", "-S", path, "serve", root])


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False


def _unknown(digest: str) -> Fault:
    return Fault(
        "trust",
        f"this board lets no unknown agent in through a restricted key, and does not know {digest[:16]}…",
        expected="the edgepack with which the key was authorized",
        advice="edgepack target authorize NAME KEY.pub with this edgepack, and a login that is not restricted",
    )


def _closed(original: str) -> Fault:
    return Fault(
        "trust",
        f"this key opens edgepack's agent alone, not {original[:80]!r}" if original else "this key opens no shell",
        expected="a command of edgepack push, status, rollback or bench",
        advice="log in with another key",
    )
