"""A real SSH server in one process: `python -m edgepack.boards.loopback FOLDER USER`.

It serves this machine's own shell, as the user who started it, with the board's folder as its home: no root, no installed
sshd. Public keys only, one client key, 127.0.0.1 only. Several connections and channels at once; data is held back where the
reader is slow, since paramiko's window is only opened by what a command has taken.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import paramiko
from paramiko import common

from edgepack.boards import forward, keys
from edgepack.boards.places import CLIENT_KEY, HOME, HOST_KEY, LISTENING, TOOLS
from edgepack.boards.processes import MARK

_CHUNK = 1 << 18
_ANSWER_SECONDS = 1.0
"""How long the end of a command waits for the answer to its request, which a client need not have asked for."""
_PACKET = 1 << 17  # four times SSH's usual packet: fewer rounds through Python for each megabyte


def environment(folder: Path, user: str) -> dict[str, str]:
    """All that a command on the board sees of the environment."""
    return {
        "HOME": str(folder / HOME),
        "PATH": os.pathsep.join([str(folder / TOOLS), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        MARK: str(folder),
    }


@dataclass(frozen=True)
class Served:
    """The board that this process serves. groups: the process groups of the commands that run now"""

    folder: Path
    user: str
    client_key: bytes
    groups: set[int] = field(default_factory=set)

    def end(self) -> None:
        for group in list(self.groups):
            _kill_group(group)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


class Session:
    """One command: its process group, its three streams, its end. answered: set once the client knows that it was begun"""

    def __init__(self, channel: paramiko.Channel, command: bytes, board: Served) -> None:
        self._channel, self._command, self._board = channel, command, board
        self._done, self.answered = threading.Event(), threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self._board.folder / HOME,
                env=environment(self._board.folder, self._board.user),
                start_new_session=True,
            )
        except (
            OSError,
            ValueError,
        ) as error:  # the command is too long, holds a NUL, or the machine has no room for it
            self._say(f"board: cannot start the command: {error}\n".encode())
            return self._finish(126)
        assert process.stdin and process.stdout and process.stderr
        self._board.groups.add(process.pid)
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()
        threading.Thread(target=self._feed, args=(process.stdin,), daemon=True).start()
        errors = threading.Thread(target=self._drain, args=(process.stderr, self._channel.sendall_stderr), daemon=True)
        errors.start()
        self._drain(process.stdout, self._channel.sendall)
        errors.join()
        status = process.wait()
        self._board.groups.discard(process.pid)
        return self._finish(status if status >= 0 else 128 - status)

    def _finish(self, status: int) -> None:
        self._done.set()
        self.answered.wait(_ANSWER_SECONDS)
        with contextlib.suppress(OSError, paramiko.SSHException, EOFError):
            self._channel.send_exit_status(status)
        self._channel.close()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        """A channel that closes under a running command takes its process group along."""
        self._channel.status_event.wait()  # paramiko sets it when the channel closes, for whatever reason
        if not self._done.is_set():
            _kill_group(process.pid)

    def _feed(self, stdin: IO[bytes]) -> None:
        descriptor = stdin.fileno()
        taken = True
        while data := self._channel.recv(_CHUNK):
            view = memoryview(data)
            while taken and view:
                try:
                    view = view[os.write(descriptor, view) :]
                except BrokenPipeError:  # the command reads no more: what still comes is dropped, as sshd does
                    taken = False
        stdin.close()

    def _drain(self, stream: IO[bytes], send: Callable[[bytes], None]) -> None:
        with stream, contextlib.suppress(OSError):  # the client is gone: `_watch` ends the command
            while data := os.read(stream.fileno(), _CHUNK):
                send(data)

    def _say(self, text: bytes) -> None:
        with contextlib.suppress(OSError):
            self._channel.sendall_stderr(text)


class Door(paramiko.ServerInterface):
    """Who may come in, and what may be asked: one user, one key, commands, connections onward."""

    def __init__(self, board: Served) -> None:
        self._board = board
        self._onward: dict[int, socket.socket] = {}
        self._begun: list[Session] = []

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == self._board.user and key.asbytes() == self._board.client_key
        return common.AUTH_SUCCESSFUL if known else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED if kind == "session" else common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        session = Session(channel, command, self._board)
        self._begun.append(session)
        session.start()
        return True

    def answered(self) -> None:
        """What was asked for has been answered."""
        while self._begun:
            self._begun.pop().answered.set()

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        try:
            link = socket.create_connection(destination, timeout=10)
        except OSError:
            return common.OPEN_FAILED_CONNECT_FAILED
        link.settimeout(None)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._onward[chanid] = link
        return common.OPEN_SUCCEEDED

    def enter(self, channel: paramiko.Channel) -> None:
        """A channel that was let in; one for commands waits for its request."""
        if link := self._onward.pop(channel.chanid, None):
            threading.Thread(target=forward.join, args=(channel, link), daemon=True).start()


class Line(paramiko.Transport):
    """A connection that tells its door when a request was answered.

    paramiko answers after it has asked the door: a command that ends at once would close its channel before it was begun.
    """

    door: Door | None = None

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]  # private, and in no stub
        if self.door and threading.current_thread() is self:
            self.door.answered()


def serve(board: Served) -> None:
    """Listen on a free port of 127.0.0.1, write it to FOLDER/listening, and serve until SIGTERM."""
    host_key = paramiko.Ed25519Key.from_private_key_file(str(board.folder / HOST_KEY))

    def leave(*_: object) -> None:
        board.end()
        os._exit(0)

    signal.signal(signal.SIGTERM, leave)
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        aside = board.folder / (LISTENING + ".new")
        aside.write_text(str(listener.getsockname()[1]))
        aside.replace(board.folder / LISTENING)
        while True:
            try:
                client, _ = listener.accept()
            except OSError as error:  # out of descriptors: those who are in may leave some
                logging.warning("cannot take a connection: %s", error)
                time.sleep(0.1)
                continue
            threading.Thread(target=_welcome, args=(client, host_key, board), daemon=True).start()


def _welcome(client: socket.socket, host_key: paramiko.PKey, board: Served) -> None:
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = Line(client, default_max_packet_size=_PACKET)
    transport.add_server_key(host_key)
    door = transport.door = Door(board)
    try:
        transport.start_server(server=door)
        kept: list[paramiko.Channel] = []
        while transport.is_active():  # paramiko keeps a channel for ever until it is asked for, and not at all after
            kept = [channel for channel in kept if not channel.closed]
            if channel := transport.accept(10.0):
                kept.append(channel)
                door.enter(channel)
    except (paramiko.SSHException, EOFError, OSError) as error:  # a port scan, a stranger, a client that left
        logging.warning("connection refused: %s", error)
        transport.close()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    os.chdir("/")
    at = Path(sys.argv[1])
    serve(Served(at, sys.argv[2], keys.public_blob(at / CLIENT_KEY)))
