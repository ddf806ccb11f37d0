"""A plain SSH client for the boards under test: what a stranger's client sees, none of edgepack's own remote room."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
import pytest

from edgepack import boards
from edgepack.cli.progress import Plain
from edgepack.target import Target

DEADLINE = 180.0
CHUNK = 1 << 18


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str


class Link:
    """One connection to a board."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport

    def open(self, command: str) -> paramiko.Channel:
        channel = self.transport.open_session(timeout=DEADLINE)
        channel.settimeout(DEADLINE)
        channel.exec_command(command)
        return channel

    def run(self, command: str, given: bytes = b"") -> Answer:
        channel = self.open(command)
        for at in range(0, len(given), CHUNK):  # paramiko's sendall copies the whole rest for every packet
            channel.sendall(given[at : at + CHUNK])
        channel.shutdown_write()
        out = channel.makefile("rb").read()
        err = channel.makefile_stderr("rb").read()
        assert channel.status_event.wait(DEADLINE), "no exit status"
        return Answer(channel.recv_exit_status(), out.decode(), err.decode())


def dial(target: Target) -> socket.socket:
    link = socket.create_connection((target.host, target.port), DEADLINE)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


@contextmanager
def connect(
    target: Target, user: str = "", identity: str = "", through: paramiko.Channel | None = None
) -> Iterator[Link]:
    with (
        through or dial(target) as link,
        paramiko.Transport(link) as transport,
    ):
        transport.start_client(timeout=DEADLINE)
        assert transport.get_remote_server_key().fingerprint == target.host_key, "another board answered"
        key = paramiko.Ed25519Key.from_private_key_file(identity or target.identity)
        transport.auth_publickey(user or target.user, key)
        yield Link(transport)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, progress: Plain) -> Iterator[Path]:
    """An EDGEPACK_HOME of the test's own, with every board in it ended afterwards."""
    place = tmp_path / "home"
    monkeypatch.setenv("EDGEPACK_HOME", str(place))
    yield place
    monkeypatch.setenv("EDGEPACK_HOME", str(place))
    for board in boards.listing():
        boards.down(board.name, progress)


Connect = Callable[..., AbstractContextManager[Link]]


@pytest.fixture
def connected() -> Connect:
    return connect
