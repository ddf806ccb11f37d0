"""Where a target really is: its own entry first, then the user's ssh_config, then SSH's defaults."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

import paramiko

from edgepack.errors import UsageError
from edgepack.target import Target


@dataclass(frozen=True)
class Address:
    """identities: private key files, in order; jump: hosts to go through as ssh's `-J` takes them; proxy: a ProxyCommand."""

    host: str
    port: int
    user: str
    identities: tuple[str, ...] = ()
    jump: tuple[str, ...] = ()
    proxy: str = ""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def read_config(path: Path | None = None) -> paramiko.SSHConfig:
    """The user's ssh_config, empty where there is none. Raises UsageError where it cannot be read."""
    path = path or Path.home() / ".ssh/config"
    if not path.is_file():
        return paramiko.SSHConfig()
    try:
        return paramiko.SSHConfig.from_path(str(path))
    except (paramiko.ConfigParseError, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", expected="a file as ssh_config(5) describes it") from None


def of_target(target: Target, config: paramiko.SSHConfig) -> Address:
    """Raises UsageError for an identity file that the inventory names and that does not exist."""
    if target.identity and not Path(target.identity).expanduser().is_file():
        raise UsageError(
            f"target {target.name!r}: the identity file {target.identity} does not exist",
            advice="correct `identity` in the inventory",
        )
    found = _look_up(target.host, config)
    jump = tuple(hop.strip() for hop in target.jump.split(",") if hop.strip())
    return Address(
        host=found.host,
        port=target.port or found.port,
        user=target.user or found.user,
        identities=(str(Path(target.identity).expanduser()),) if target.identity else found.identities,
        jump=jump or found.jump,
        proxy="" if jump else found.proxy,
    )


def of_hop(hop: str, config: paramiko.SSHConfig) -> Address:
    """A jump host as `[user@]host[:port]`, where `host` may be an alias of ssh_config."""
    user, _, rest = hop.rpartition("@")
    host, _, port = rest.partition(":") if rest.count(":") == 1 else (rest, "", "")
    if not host or (port and not port.isdigit()):
        raise UsageError(f"jump host {hop!r} cannot be read", expected="[user@]host[:port]")
    found = _look_up(host, config)
    return Address(found.host, int(port) if port else found.port, user or found.user, found.identities)


def _look_up(host: str, config: paramiko.SSHConfig) -> Address:
    found = config.lookup(host)
    proxy = found.get("proxycommand", "")
    jump = found.get("proxyjump", "")
    files = tuple(os.path.expanduser(path) for path in found.get("identityfile", ()))  # noqa: PTH111 - as ssh writes them
    return Address(
        host=found.get("hostname", host),
        port=int(found.get("port", 22)),
        user=found.get("user") or getpass.getuser(),
        identities=tuple(path for path in files if Path(path).is_file()),
        jump=() if jump in ("", "none") else tuple(hop.strip() for hop in jump.split(",")),
        proxy="" if proxy in ("", "none") else proxy,
    )
