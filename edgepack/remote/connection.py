"""One SSH connection to a target: routed as ssh would, encrypted fast, its host key the one that was enrolled."""

from __future__ import annotations

import hmac
import logging
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType
from typing import Any

import paramiko

from edgepack.errors import BoardError, EdgepackError, TrustError
from edgepack.remote import address
from edgepack.remote.address import Address
from edgepack.remote.session import Session
from edgepack.target import Target

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # it prints tracebacks of what we report ourselves

_FAST = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")


class Bastions:
    """Connections to jump hosts, each opened once and shared: a bastion drops or bans a client that opens many at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Address, paramiko.SSHClient] = {}

    def __enter__(self) -> Bastions:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            for client in self._open.values():
                client.close()
            self._open.clear()

    def through(self, hops: tuple[Address, ...], to: Address, name: str, deadline: float) -> paramiko.Channel:
        """A channel to `to` through the hops in order."""
        with self._lock:
            transport = self._reach(hops, name, deadline)
        try:
            return transport.open_channel("direct-tcpip", (to.host, to.port), ("", 0), timeout=deadline)
        except paramiko.SSHException as error:
            raise _unreachable(name, f"the jump host {hops[-1]} cannot reach {to.host}:{to.port}: {error}") from None

    def _reach(self, hops: tuple[Address, ...], name: str, deadline: float) -> paramiko.Transport:
        last = hops[-1]
        known = self._open.get(last)
        transport = known.get_transport() if known else None
        if transport is not None and transport.is_active():
            return transport
        if len(hops) > 1:
            before = self._reach(hops[:-1], name, deadline)
            link: Any = before.open_channel("direct-tcpip", (last.host, last.port), ("", 0), timeout=deadline)
        else:
            link = _dial(last, name, deadline)
        with ExitStack() as stack:
            stack.callback(link.close)
            client = paramiko.SSHClient()
            stack.callback(client.close)
            client.load_system_host_keys()
            client.set_missing_host_key_policy(_KnownHosts())
            _log_in(client, link, last, f"jump host {last}", deadline)
            stack.pop_all()  # it stays open for the next target
        self._open[last] = client
        opened = client.get_transport()
        assert opened is not None
        return opened


class _Proxy(paramiko.ProxyCommand):
    """Paramiko's own spins when its command ends, and forgets it when it is closed; this one does neither."""

    def recv(self, size: int) -> bytes:
        """At most `size` bytes, none where the command ended. Raises TimeoutError as a socket does."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], self.timeout)
        if not ready:
            raise TimeoutError
        return os.read(self.process.stdout.fileno(), size)

    def close(self) -> None:
        process = self.process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(2.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


class _KnownHosts(paramiko.MissingHostKeyPolicy):
    """A jump host is no target: its key is in the user's known_hosts, as for ssh itself."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise TrustError(
            f"the jump host {hostname} shows the host key {key.fingerprint}, which is not in known_hosts",
            expected="a known host key",
            advice=f"ssh {hostname} once, compare the fingerprint and accept it",
        )


class _Pinned(paramiko.MissingHostKeyPolicy):
    def __init__(self, target: Target) -> None:
        self._target = target

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        if not hmac.compare_digest(key.fingerprint.encode(), self._target.host_key.rstrip("=").encode()):
            raise TrustError(
                f"target {self._target.name!r} shows the host key {key.fingerprint} ({key.get_name()}), which is not the one "
                "that was enrolled: it was reinstalled, or somebody else answers in its place",
                expected=self._target.host_key,
                advice=f"find out why it changed; if that is right, edgepack target enrol {self._target.name}",
            )


class _AnyKey(paramiko.MissingHostKeyPolicy):
    """For fingerprints only: nothing is ever sent over such a connection."""

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise _Shown(key.fingerprint)


class _Shown(Exception):
    def __init__(self, fingerprint: str) -> None:
        super().__init__(fingerprint)
        self.fingerprint = fingerprint


@contextmanager
def connect(target: Target, deadline: float = 20.0, bastions: Bastions | None = None) -> Iterator[Session]:
    """A session on a target's board. deadline: seconds for each stage (reach, shake hands, log in).

    Raises TrustError for a host key that is not the enrolled one, BoardError naming the target where it cannot be reached,
    hangs or refuses the key, UsageError for a broken ssh_config or a missing identity file.
    """
    if not target.enrolled:
        raise TrustError(
            f"target {target.name!r} was never enrolled: its host key is not known",
            expected="a host key pinned in the inventory, or by an explicit step",
            advice=f"edgepack target enrol {target.name}",
        )
    with ExitStack() as stack:
        shared = bastions or stack.enter_context(Bastions())
        found = address.of_target(target, address.read_config())
        link = _route(target, found, shared, deadline)
        stack.callback(link.close)
        client = paramiko.SSHClient()
        stack.callback(client.close)
        client.set_missing_host_key_policy(_Pinned(target))
        _log_in(client, link, found, f"target {target.name!r}", deadline)
        transport = client.get_transport()
        assert transport is not None
        yield Session(target, transport)


def fingerprint(target: Target, deadline: float = 20.0) -> str:
    """The host key that a target shows now, as `SHA256:…`, without logging in. Raises BoardError."""
    with Bastions() as bastions:
        found = address.of_target(target, address.read_config())
        link = _route(target, found, bastions, deadline)
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_AnyKey())
        try:
            _log_in(client, link, found, f"target {target.name!r}", deadline)
        except _Shown as shown:
            return shown.fingerprint
        finally:
            client.close()
            link.close()
    raise _unreachable(target.name, "no host key was shown")


def _route(target: Target, to: Address, bastions: Bastions, deadline: float) -> Any:
    if to.jump:
        config = address.read_config()
        hops = tuple(address.of_hop(hop, config) for hop in to.jump)
        return bastions.through(hops, to, f"target {target.name!r}", deadline)
    if to.proxy:
        return _Proxy(to.proxy)
    return _dial(to, f"target {target.name!r}", deadline)


def _dial(to: Address, name: str, deadline: float) -> socket.socket:
    try:
        link = socket.create_connection((to.host, to.port), deadline)
    except socket.gaierror:
        raise _unreachable(
            name, f"the host {to.host!r} cannot be resolved", "correct `host` in the inventory"
        ) from None
    except TimeoutError:
        raise _unreachable(name, f"{to.host}:{to.port} did not answer within {deadline:.0f} s") from None
    except OSError as error:
        raise _unreachable(name, f"{to.host}:{to.port}: {error.strerror or error}") from None
    # Without it each small packet waits for the acknowledgement of the one before: 1 MB/s instead of 76.
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _transport(link: Any, **options: Any) -> paramiko.Transport:
    transport = paramiko.Transport(link, **options)
    security = transport.get_security_options()
    security.ciphers = [cipher for cipher in _FAST if cipher in security.ciphers]
    return transport


def _log_in(client: paramiko.SSHClient, link: Any, to: Address, name: str, deadline: float) -> None:
    try:
        client.connect(
            to.host,
            to.port,
            to.user,
            sock=link,
            key_filename=list(to.identities) or None,  # type: ignore[arg-type]  # several, as its documentation says
            look_for_keys=not to.identities,
            timeout=deadline,
            banner_timeout=deadline,
            auth_timeout=deadline,
            channel_timeout=deadline,
            transport_factory=_transport,
        )
    except (_Shown, EdgepackError):
        raise
    except paramiko.BadHostKeyException as error:
        raise TrustError(
            f"{name} shows another host key than known_hosts holds: {error.key.fingerprint}",
            expected=error.expected_key.fingerprint,
            advice="find out why it changed; if that is right, ssh-keygen -R the host and ssh to it once",
        ) from None
    except paramiko.PasswordRequiredException:
        raise _refused(name, to, "the private key is encrypted") from None
    except paramiko.AuthenticationException as error:
        raise _refused(name, to, str(error)) from None
    except (paramiko.SSHException, EOFError, OSError) as error:
        if "authentication methods" in str(error):
            raise _refused(name, to, "there is no private key to offer") from None
        said = str(error) or type(error).__name__
        raise _unreachable(name, f"{to.host}:{to.port} speaks no SSH, or hangs: {said}") from None


def _refused(name: str, to: Address, why: str) -> BoardError:
    offered = ", ".join(to.identities) or "the keys of ssh-agent and ~/.ssh"
    return BoardError(
        f"{name} refused the login of {to.user}: {why}",
        expected=f"one of the keys offered to be in {to.user}'s authorized_keys there ({offered}); passwords are not used",
        advice=f"ssh-copy-id -p {to.port} {to.user}@{to.host}, or ssh-add an encrypted key, or set `identity` in the inventory",
    )


def _unreachable(name: str, why: str, advice: str = "") -> BoardError:
    return BoardError(
        f"{name} cannot be reached: {why}",
        expected="an SSH server",
        advice=advice or "look whether the board is on and on the network, and at `host` and `port` in the inventory",
    )
