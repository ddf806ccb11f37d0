"""Who we are to a registry: what `docker login`, `skopeo login` and `oras login` wrote, and the programs they name."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from msgspec import Struct

from edgepack.errors import InputError

_HELPER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HELPER_SECONDS = 30.0


class Login(Struct, frozen=True):
    """token: an identity token in place of a password, to be exchanged (OAuth2)"""

    user: str
    password: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.user!r}, …)"

    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_login(host: str) -> Login | None:
    """The login for `host`, or None where no file has one.

    Raises InputError naming a file that is broken or a credential helper that fails.
    """
    for file in config_files():
        if file.is_file() and (found := _from_file(file, host)):
            return found
    return None


def config_files() -> tuple[Path, ...]:
    """Where logins are looked for, in this order: $REGISTRY_AUTH_FILE, podman's and skopeo's file, docker's."""
    chosen, runtime = os.environ.get("REGISTRY_AUTH_FILE"), os.environ.get("XDG_RUNTIME_DIR")
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    if chosen:
        return (Path(chosen),)
    return (*((Path(runtime) / "containers/auth.json",) if runtime else ()), docker)


def _from_file(file: Path, host: str) -> Login | None:
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable: {error}", advice=f"mend or remove {file}, and log in again") from None
    if not isinstance(document, dict):
        raise InputError(f"{file}: no JSON object", advice=f"remove {file}, and log in again")
    names = (host, f"https://{host}", f"http://{host}", f"https://{host}/v1/", f"https://{host}/v2/")
    helpers, entries = _table(document, "credHelpers"), _table(document, "auths")
    if isinstance(helper := helpers.get(host), str):
        return _ask_helper(helper, host, file)
    for name in names:
        if isinstance(entry := entries.get(name), dict) and (found := _from_entry(entry, file, name)):
            return found
    store = document.get("credsStore")
    known = next((name for name in names if name in entries), "")
    return _ask_helper(store, known, file) if isinstance(store, str) and known else None


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _from_entry(entry: dict[str, Any], file: Path, name: str) -> Login | None:
    try:
        user, _, password = base64.b64decode(str(entry.get("auth", "")), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InputError(f"{file}: auths.{name}: auth is no base64", advice="log in again") from None
    user, password = user or str(entry.get("username", "")), password or str(entry.get("password", ""))
    token = str(entry.get("identitytoken", ""))
    return Login(user, password.rstrip("\0"), token) if user or token else None


def _ask_helper(helper: str, host: str, file: Path) -> Login | None:
    """docker/docker-credential-helpers: the server's name on standard input, JSON on standard output."""
    program = f"docker-credential-{helper}"
    advice = f"install {program}, or mend {file}"
    if not _HELPER.fullmatch(helper):
        raise InputError(f"{file}: the credential helper {helper[:80]!r} cannot be a program's name", advice=advice)
    try:
        done = subprocess.run(
            [program, "get"], input=host, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except (FileNotFoundError, PermissionError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{file}: {program} cannot be asked: {error}", advice=advice) from None
    if done.returncode:
        if "not found" in done.stdout + done.stderr:
            return None
        raise InputError(f"{program} failed: {(done.stderr or done.stdout).strip()[:200]}", advice=advice)
    try:
        answer = json.loads(done.stdout)
        user, secret = str(answer["Username"]), str(answer["Secret"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{program} gave no login as JSON", advice=advice) from None
    return Login("", "", secret) if user == "<token>" else Login(user, secret)
