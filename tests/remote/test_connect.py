"""Boards that are strangers, changed, closed, silent or without Python: each a clear error, in time."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import paramiko
import pytest
from msgspec import structs

from edgepack import boards
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError, BugError, TrustError, UsageError
from edgepack.protocol import BlobPart, Empty, Facts, FactsRequest, StatusReply
from edgepack.remote import Bastions, Outgoing, address, connect, fingerprint, session
from edgepack.target import Target

pytestmark = pytest.mark.board


@pytest.fixture
def board(test_home: Path, progress: Plain, request: pytest.FixtureRequest) -> Iterator[Target]:
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[:40].strip("-")
    (target,) = boards.up(f"r-{name}", "loopback", "", 1, progress)
    yield target
    boards.down(target.name, progress)


@pytest.fixture
def python(board: Target, test_home: Path) -> Path:
    """The board's `python3`, to be replaced."""
    return test_home / "boards" / board.name / "bin/python3"


def ask(target: Target, seconds: float = 20.0) -> Facts:
    with connect(target, seconds) as opened:
        return opened.call("facts", FactsRequest(), Facts, seconds)


def write_program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_the_agent_is_pushed_once_and_then_found(board: Target, test_home: Path) -> None:
    assert ask(board).board == "loopback"
    folder = test_home / "boards" / board.name / "home/.edgepack/agent"
    (agent,) = folder.glob("*/agent.pyz")
    assert hashlib.sha256(agent.read_bytes()).hexdigest() == agent.parent.name
    before = agent.stat().st_mtime_ns
    ask(board)
    assert agent.stat().st_mtime_ns == before


@pytest.mark.parametrize("root", ["~/else where", "~", "relative/$HOME", "it's;touch x"])
def test_a_root_is_data_for_the_board_s_shell(board: Target, test_home: Path, root: str) -> None:
    home = test_home / "boards" / board.name / "home"
    found = ask(structs.replace(board, root=root))
    assert Path(found.root) == Path(root.replace("~", str(home)) if root.startswith("~") else home / root)
    assert not (home / "x").exists()


def test_a_greeting_of_the_login_shell_is_not_the_answer(board: Target, python: Path) -> None:
    text = python.read_text().replace("exec ", "echo '{\"error\": 1} Welcome to this board!'; exec ", 1)
    python.write_text(text)
    assert ask(board).protocol == 1


def test_a_stranger_is_not_trusted(board: Target) -> None:
    with pytest.raises(TrustError, match="never enrolled") as caught:
        ask(structs.replace(board, host_key=""))
    assert f"edgepack target enrol {board.name}" in caught.value.advice


def test_a_changed_host_key_is_not_trusted(board: Target) -> None:
    with pytest.raises(TrustError, match="shows the host key") as caught:
        ask(structs.replace(board, host_key="SHA256:" + "A" * 43))
    assert caught.value.expected == "SHA256:" + "A" * 43


def test_the_fingerprint_is_what_ssh_keygen_says(board: Target, test_home: Path) -> None:
    key = test_home / "boards" / board.name / "host_key"
    said = subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]
    assert fingerprint(structs.replace(board, host_key="")) == said == board.host_key


def test_a_refused_key_is_named(board: Target, tmp_path: Path) -> None:
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    with pytest.raises(BoardError, match="refused the login") as caught:
        ask(structs.replace(board, identity=str(key)))
    assert str(key) in caught.value.expected


def test_an_encrypted_key_is_named(board: Target, tmp_path: Path) -> None:
    key = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", key], check=True)
    with pytest.raises(BoardError, match="encrypted") as caught:
        ask(structs.replace(board, identity=str(key)))
    assert "ssh-add" in caught.value.advice


def test_a_missing_identity_file_is_named(board: Target) -> None:
    with pytest.raises(UsageError, match="/nowhere/key"):
        ask(structs.replace(board, identity="/nowhere/key"))


def test_a_closed_port_is_named(board: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(BoardError, match=f"127.0.0.1:{port}"):
        ask(structs.replace(board, port=port))


def test_an_unknown_host_is_named(board: Target) -> None:
    with pytest.raises(BoardError, match="cannot be resolved"):
        ask(structs.replace(board, host="no-such-board.invalid"))


def test_a_port_that_never_says_a_word_is_given_up(board: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(BoardError, match="hangs"):
            ask(structs.replace(board, port=server.getsockname()[1]), 1.0)
        assert time.monotonic() - start < 5


def test_a_port_that_speaks_something_else_is_named(board: Target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            client, _ = server.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(BoardError, match="speaks no SSH"):
            ask(structs.replace(board, port=server.getsockname()[1]), 2.0)


def test_a_board_without_python_is_told_what_it_lacks(board: Target, python: Path) -> None:
    ask(board)
    write_program(python, 'echo "sh: python3: not found" >&2; exit 127')
    with pytest.raises(BoardError, match="no python3") as caught:
        ask(board)
    assert "install" in caught.value.advice


def test_an_old_python_is_told_its_version(board: Target, python: Path) -> None:
    # the board's Python, made to believe that it is 3.7
    real = python.read_text().split("'")[1]
    wrapper = f'[ "$3" = -c ] || exec {real} "$@"\nshift 3; c=$1; shift\n'
    wrapper += f'exec {real} -c "import sys; sys.version_info, sys.version = (3, 7, 3), \'3.7.3 (old)\'\n$c" "$@"'
    write_program(python, wrapper)
    with pytest.raises(BoardError, match=r"too old: Python 3\.7\.3") as caught:
        ask(board)
    assert "3.9" in caught.value.expected


def test_a_board_that_hangs_is_given_up_in_time(board: Target, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_GRACE", 0.5)
    ask(board)
    write_program(python, "exec sleep 600")
    start = time.monotonic()
    with pytest.raises(BoardError, match=f"{board.name}.*hangs: no end of facts"):
        ask(board, 1.0)
    assert time.monotonic() - start < 5


def test_a_board_that_talks_for_ever_is_given_up(board: Target, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_MOST_OUTPUT", 1 << 20)
    monkeypatch.setattr(session, "_GRACE", 0.5)
    ask(board)
    write_program(python, "exec cat /dev/zero")
    with pytest.raises(BoardError):
        ask(board, 2.0)


def test_an_agent_that_is_killed_is_no_answer(board: Target, python: Path) -> None:
    ask(board)
    write_program(python, "kill -9 $$")
    with pytest.raises(BoardError, match="signal 9"):
        ask(board)


def test_an_agent_that_fails_shows_its_traceback(board: Target, test_home: Path) -> None:
    ask(board)
    (agent,) = (test_home / "boards" / board.name / "home/.edgepack/agent").glob("*/agent.pyz")
    agent.write_text("raise KeyError('a bug')")
    with pytest.raises(BugError, match="a bug"):
        ask(board)


def test_a_server_that_goes_away_midway_is_a_lost_connection(board: Target, test_home: Path, progress: Plain) -> None:
    data = os.urandom(1 << 20)
    blob = Outgoing(
        BlobPart("sha256:" + hashlib.sha256(data).hexdigest(), len(data)), lambda: Falling(data, board, progress)
    )
    with pytest.raises(BoardError) as caught, connect(board) as opened:
        opened.send_blobs([blob])
    assert "again" in caught.value.advice


class Falling(io.BytesIO):
    """A stream whose board is ended while it is read."""

    def __init__(self, data: bytes, board: Target, progress: Plain) -> None:
        super().__init__(data)
        self._board, self._progress = board, progress

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 1 << 19:
            boards.down(self._board.name, self._progress)
        return super().read(size)


def test_what_is_sent_arrives(board: Target) -> None:
    data = [os.urandom(size) for size in (0, 1, 70_000, 3 << 20)]
    parts = [BlobPart("sha256:" + hashlib.sha256(one).hexdigest(), len(one)) for one in data]
    with connect(board) as opened:
        sent = opened.send_blobs(
            [Outgoing(part, lambda one=one: io.BytesIO(one)) for part, one in zip(parts, data, strict=True)]
        )
        facts = opened.call("facts", FactsRequest(blobs=tuple(part.digest for part in parts)), Facts, 20)
    assert sent == sum(map(len, data))
    assert all(state.complete for state in facts.blobs)


@contextmanager
def bastion(user_key: paramiko.PKey, host_key: paramiko.PKey) -> Iterator[tuple[int, list[str]]]:
    """A jump host that only forwards; the port, and the destinations that it was asked for."""
    asked: list[str] = []

    class Door(paramiko.ServerInterface):
        def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
            return paramiko.AUTH_SUCCESSFUL if key == user_key else paramiko.AUTH_FAILED

        def get_allowed_auths(self, username: str) -> str:
            return "publickey"

        def check_channel_direct_tcpip_request(self, chanid: int, origin: object, destination: tuple[str, int]) -> int:
            asked.append(f"{destination[0]}:{destination[1]}")
            threading.Thread(target=forward, args=(destination,), daemon=True).start()
            return paramiko.OPEN_SUCCEEDED

    transports: list[paramiko.Transport] = []

    def forward(destination: tuple[str, int]) -> None:
        channel = transports[0].accept(10)
        assert channel is not None
        with socket.create_connection(destination) as link:
            threading.Thread(target=copy, args=(channel.recv, link.sendall), daemon=True).start()
            copy(link.recv, channel.sendall)
        channel.close()

    def copy(read: object, write: object) -> None:
        try:
            while data := read(1 << 15):  # type: ignore[operator]
                write(data)  # type: ignore[operator]
        except OSError:
            pass

    def serve(server: socket.socket) -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            transport = paramiko.Transport(client)
            transport.add_server_key(host_key)
            transports.append(transport)
            with suppress(paramiko.SSHException, EOFError):  # a client that does not trust it leaves in the middle
                transport.start_server(server=Door())

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1], asked
        assert len(transports) <= 1, "the jump host was connected to more than once"
        for transport in transports:
            transport.close()


def test_several_targets_share_one_connection_to_their_jump_host(
    board: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    host_key = paramiko.ECDSAKey.generate()
    with bastion(paramiko.Ed25519Key.from_private_key_file(board.identity), host_key) as (port, asked):
        (tmp_path / ".ssh/config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {port}\n  User anybody\n  IdentityFile {board.identity}\n"
            f"Host behind\n  HostName {board.host}\n  Port {board.port}\n  User {board.user}\n"
            f"  IdentityFile {board.identity}\n  ProxyJump gate\n"
        )
        (tmp_path / ".ssh/known_hosts").write_text(
            f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n"
        )
        alias = Target(name="alias", host="behind", profile=board.profile, host_key=board.host_key)
        named = structs.replace(board, jump="gate")
        with Bastions() as bastions:
            for target in (alias, named):
                with connect(target, bastions=bastions) as opened:
                    assert opened.call("status", Empty(), StatusReply, 20).releases == ()
    assert asked == [f"{board.host}:{board.port}"] * 2


def test_an_unknown_jump_host_is_not_trusted(board: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    key = paramiko.Ed25519Key.from_private_key_file(board.identity)
    with bastion(key, paramiko.ECDSAKey.generate()) as (port, asked):
        with pytest.raises(TrustError, match="jump host"):
            ask(structs.replace(board, jump=f"someone@127.0.0.1:{port}"))
        assert asked == []


def test_a_proxy_command_is_a_way_too(board: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    code = (
        "import socket, sys, threading, os\n"
        f"s = socket.create_connection(('{board.host}', {board.port}))\n"
        "def up():\n    while d := os.read(0, 65536): s.sendall(d)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )
    (tmp_path / "proxy.py").write_text(code)
    (tmp_path / ".ssh/config").write_text(f"Host far\n  ProxyCommand python3 {tmp_path}/proxy.py\n")
    assert ask(structs.replace(board, host="far")).board == "loopback"


def test_a_proxy_command_that_fails_is_named_at_once(
    board: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host far\n  ProxyCommand false\n")
    start = time.monotonic()
    with pytest.raises(BoardError, match="cannot be reached"):
        ask(structs.replace(board, host="far"), 10.0)
    assert time.monotonic() - start < 5


def test_the_target_s_own_values_win_over_ssh_config(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host pi\n  HostName 10.0.0.9\n  Port 2222\n  User other\n  ProxyJump gate,gate2\n")
    config = address.read_config(file)
    plain = address.of_target(Target(name="t", host="pi", profile="rpi4"), config)
    assert (plain.host, plain.port, plain.user, plain.jump) == ("10.0.0.9", 2222, "other", ("gate", "gate2"))
    own = address.of_target(Target(name="t", host="pi", port=22, user="pi", jump="via", profile="rpi4"), config)
    assert (own.host, own.port, own.user, own.jump) == ("10.0.0.9", 22, "pi", ("via",))


@pytest.mark.parametrize("hop", ["", "a@", "host:port", "@"])
def test_a_jump_host_that_cannot_be_read_is_refused(hop: str) -> None:
    with pytest.raises(UsageError):
        address.of_hop(hop, paramiko.SSHConfig())


def test_a_broken_ssh_config_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config"
    file.write_text("Host\n  = = =\n\x00")
    with pytest.raises(UsageError, match="config"):
        address.read_config(file)
