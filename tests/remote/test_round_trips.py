"""What a push that changes nothing costs on a slow link, counted: connections, and how often the host waits for the board."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from msgspec import structs

from edgepack.protocol import Facts, FactsRequest
from edgepack.remote import connect
from edgepack.target import Target

pytestmark = pytest.mark.board
DELAY = 0.1
"""Seconds each way: what is sent without waiting for an answer comes before any answer can."""


class Link:
    """A TCP proxy that counts. turns: how often something was sent after something had been received"""

    def __init__(self, port: int) -> None:
        self.port, self.connections, self.turns, self._answered = port, 0, 0, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.threads = [threading.Thread(target=self._serve)]
        self.threads[0].start()

    def settled(self) -> int:
        """The turns, once what was sent last has arrived: an end is said, and nobody waits for it."""
        time.sleep(6 * DELAY)
        return self.turns

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        self.listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                board = socket.create_connection(("127.0.0.1", self.port))
                pair = (threading.Thread(target=self._carry, args=(client, board, True)),)
                pair += (threading.Thread(target=self._carry, args=(board, client, False)),)
                for thread in pair:
                    thread.start()
                self.threads.append(threading.Thread(target=_close_after, args=(pair, client, board)))
                self.threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if up and self._answered:
                    self.turns += 1
                self._answered = not up
                time.sleep(DELAY)
                sink.sendall(data)
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def _close_after(threads: tuple[threading.Thread, ...], *sockets: socket.socket) -> None:
    for thread in threads:
        thread.join()
    for one in sockets:
        one.close()


@pytest.fixture
def link(loopback: Target) -> Iterator[tuple[Link, Target]]:
    found = Link(loopback.port)
    yield found, structs.replace(loopback, host="127.0.0.1", port=found.listener.getsockname()[1])
    found.close()


def test_asking_a_board_costs_two_round_trips_after_the_login(link: tuple[Link, Target], loopback: Target) -> None:
    """It is all that a push asks which then finds that nothing is to be done (`test_push` says so)."""
    counted, target = link
    with connect(loopback) as session:
        session.call("facts", FactsRequest(), Facts, 60.0)  # the agent is there from now on
    with connect(target) as session:
        counted.settled()
        counted.turns = 0  # the login's
        session.call("facts", FactsRequest(), Facts, 60.0)
    # a channel is opened; a command with its input is sent; that the channel is closed is said, and nobody waits for it
    assert counted.connections == 1
    assert counted.settled() <= 3
