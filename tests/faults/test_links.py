"""Connections that are cut, stall, come and go, are slow, lose packets or flip bits: nothing is half done, little is sent twice."""

from __future__ import annotations

import contextlib
import fcntl
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgepack import boards, delivery
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery import asking, pushing
from edgepack.delivery.results import PushResult
from edgepack.protocol import BlobState
from edgepack.remote import Session, connect, session
from edgepack.target import Target

pytestmark = [pytest.mark.faults, pytest.mark.board]

Amount = Callable[[str], int]
CHUNK = 1 << 18
UNDER_WAY = 4 << 20
"""What a sender may have under way on a fast link: SSH's window of 2 MiB, and what the kernel's sockets hold."""
SIZE = 6 << 20


@dataclass
class Proxy:
    """A TCP proxy to a board, with a fault. Bytes are counted from the client to the board, over all connections.

    cut_at: the connection ends when so many have passed; stall_at: nothing moves any more, and nobody is told
    flip_at: one bit of that byte arrives changed; delay: seconds each way; rate: bytes a second
    """

    port: int
    cut_at: int | None = None
    stall_at: int | None = None
    flip_at: int | None = None
    delay: float = 0.0
    rate: float = 0.0
    passed: int = 0
    connections: list[socket.socket] = field(default_factory=list)

    def __enter__(self) -> Proxy:
        self.listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.drop()

    @property
    def address(self) -> int:
        return int(self.listener.getsockname()[1])

    def drop(self) -> None:
        for one in self.connections:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.connections.clear()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                board = socket.create_connection(("127.0.0.1", self.port))
                for one in (client, board):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += [client, board]
                threading.Thread(target=self._carry, args=(client, board, True), daemon=True).start()
                threading.Thread(target=self._carry, args=(board, client, False), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 14):
                if self.delay:
                    time.sleep(self.delay)
                if self.rate:
                    time.sleep(len(data) / self.rate)
                if up:
                    data = self._spoil(data)
                elif self.stall_at is not None and self.passed >= self.stall_at:
                    return
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _spoil(self, data: bytes) -> bytes:
        before, self.passed = self.passed, self.passed + len(data)
        if self.flip_at is not None and before <= self.flip_at < self.passed:
            at = self.flip_at - before
            data = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        if self.cut_at is not None and self.passed >= self.cut_at:
            self.cut_at = None
            self.drop()
            raise ConnectionResetError
        if self.stall_at is not None and self.passed >= self.stall_at:
            time.sleep(3600)
        return data


@dataclass
class Board:
    """A loopback board with a release on it, seen through a proxy. new: what is pushed; cost: bytes that such a push takes"""

    target: Target
    proxy: Proxy
    old: Bundle
    new: Bundle
    rig_at: Callable[[Path], Any]
    cost: int = 0

    @property
    def through(self) -> Target:
        return structs.replace(self.target, port=self.proxy.address)

    def push(self, bundle: Bundle | None = None, *, direct: bool = False) -> PushResult:
        target = self.target if direct else self.through
        (result,) = delivery.push(bundle or self.new, [target], allow_unsigned=True, downgrade=True, progress=Plain())
        return result

    def keep(self) -> None:
        """What is on the board now is what `reset` returns to."""
        subprocess.run(["cp", "-a", self.root, self.root.with_name("kept")], check=True)

    def reset(self) -> None:
        """The old release is active; of the new one nothing is there."""
        self.proxy.cut_at = self.proxy.stall_at = self.proxy.flip_at = None
        self.proxy.delay = self.proxy.rate = 0.0
        self.proxy.drop()
        with (self.root / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # an agent that was cut off may still be at work
            shutil.rmtree(self.root)
            subprocess.run(["cp", "-a", self.root.with_name("kept"), self.root], check=True)
        self.proxy.passed = 0

    @property
    def root(self) -> Path:
        return Path(self.target.identity).parent / "home/.edgepack"

    @property
    def blobs(self) -> tuple[str, ...]:
        return tuple(str(one.digest) for one in self.new.manifest.variants)

    def check(self, *versions: str) -> None:
        """What is active is whole, and one of these versions."""
        digests = {"1.0.0": self.old.digest, "1.1.0": self.new.digest}
        self.rig_at(self.root).assert_whole(*(digests[version] for version in versions))

    def ask(self) -> None:
        """The same over SSH, as an operator asks."""
        (state,) = delivery.status([self.target], Plain())
        (release,) = state.releases
        assert release.active and release.verified is True and state.log_intact, state


@pytest.fixture(scope="module")
def board(make_release: Callable[..., Bundle], rig_at: Callable[[Path], Any], progress: Plain) -> Iterator[Board]:
    (target,) = boards.up("faults-link", "loopback", "", 1, progress)
    with Proxy(target.port) as proxy:
        one = Board(target, proxy, make_release("1.0.0"), make_release("1.1.0", size=SIZE), rig_at)
        one.push(one.old)
        one.keep()
        one.reset()
        assert one.push().outcome == "activated"
        one.cost = proxy.passed
        yield one
        one.ask()
    boards.down("faults-link", progress)


def test_cut_anywhere(board: Board, chance: random.Random, amount: Amount, tally: Any) -> None:
    row = "cuts of the connection"
    shares = [0.5, 0.0, 0.99, 0.01, 0.25, 1.0][: amount(row)]
    offsets = [max(1, int(share * board.cost)) for share in shares]
    offsets += [chance.randrange(1, board.cost) for _ in range(amount(row) - len(shares))]
    for offset in offsets:
        board.reset()
        board.proxy.cut_at = offset
        with tally.fault(row):
            first = board.push()
            board.check("1.0.0", "1.1.0")
            passed = board.proxy.passed
            board.proxy.cut_at = None  # where this push took fewer bytes than the one that was measured
            second = board.push()
            assert second.outcome in ("activated", "unchanged"), (first, second)
            board.check("1.1.0")
            # what the agent already had is not sent again: all that passes is a push and what was under way at the cut
            twice = max(0, min(passed, SIZE) + second.bytes_sent - board_needs(board))
            tally.add(row, bytes_needed=board_needs(board), bytes_resent=twice, most_resent_a_cut=twice)
            assert twice <= UNDER_WAY, f"{twice} bytes were sent twice after a cut at {offset}"


def board_needs(board: Board) -> int:
    (one,) = board.new.manifest.variants
    return int(one.size + one.golden_size + len(board.new.manifest_bytes))


def test_cut_on_a_slow_link_resends_less_than_a_chunk(
    board: Board, chance: random.Random, amount: Amount, tally: Any
) -> None:
    """Where the link is slower than the board's disk, as it is outside of tests, hardly anything is under way at a cut."""
    row = "cuts of a link of 1 MB/s"
    for _ in range(max(1, amount("cuts of the connection") // 10)):
        board.reset()
        board.proxy.rate = 1e6
        board.proxy.cut_at = chance.randrange(CHUNK, board.cost - CHUNK)
        with tally.fault(row):
            board.push()
            passed = board.proxy.passed
            (state,) = self_states(board)
            lost = max(0, min(passed, SIZE) - state.bytes)
            tally.add(row, bytes_needed=SIZE, bytes_resent=lost, most_resent_a_cut=lost)
            assert lost <= CHUNK, f"{lost} bytes passed and are not there"
            assert board.push().outcome == "activated"
            board.check("1.1.0")


def self_states(board: Board) -> tuple[BlobState, ...]:
    from edgepack.protocol import Facts, FactsRequest

    with connect(board.target) as link:
        return link.call("facts", FactsRequest(blobs=board.blobs), Facts, 60.0).blobs[:1]


def test_a_stall_ends_at_the_deadline(
    board: Board, chance: random.Random, amount: Amount, tally: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reset, no end, nothing: a firewall that forgot, a radio that is off."""
    monkeypatch.setattr(session, "_STALL", 2.0)
    monkeypatch.setattr(session, "_GRACE", 1.0)
    monkeypatch.setattr(pushing, "FACTS_SECONDS", 4.0)
    monkeypatch.setattr(asking, "FACTS_SECONDS", 4.0)
    for number in range(amount("stalls of the connection")):
        board.reset()
        board.proxy.stall_at = board.cost // 2 if number == 0 else chance.randrange(3_000, board.cost)
        with tally.fault("stalls of the connection"):
            start = time.monotonic()
            result = board.push()
            taken = time.monotonic() - start
            assert result.outcome == "failed" and result.error and result.error.kind == "BoardError", result
            assert taken < 45, f"{taken:.0f} s"
            board.proxy.drop()
            board.check("1.0.0", "1.1.0")


def test_a_link_that_comes_and_goes(board: Board, chance: random.Random, amount: Amount, tally: Any) -> None:
    """Every connection is cut a little later than the one before: in the end it arrives."""
    row = "flaps of the connection"
    left = amount(row)
    while left > 0:
        board.reset()
        sent = 0
        while True:
            flapping = left > 0
            board.proxy.cut_at = board.proxy.passed + chance.randrange(1 << 16, 1 << 21) if flapping else None
            with tally.fault(row) if flapping else contextlib.nullcontext():
                result = board.push()
                left -= flapping
                board.check("1.0.0", "1.1.0")
            if result.outcome != "failed":
                break
        sent = board.proxy.passed
        tally.add(row, bytes_needed=board.cost, bytes_passed=sent)
        board.check("1.1.0")


def test_a_link_of_300_ms_and_one_that_loses_packets(board: Board, amount: Amount, tally: Any) -> None:
    row = "pushes over a slow link"
    for number in range(amount(row)):
        board.reset()
        lossy = number % 2 == 1 and shutil.which("iptables") is not None
        board.proxy.delay = 0.0 if lossy else 0.15
        board.proxy.rate = 2e6
        with tally.fault(row), dropping(board.proxy.address) if lossy else contextlib.nullcontext():
            result = board.push()
            assert result.outcome == "activated", result
            board.check("1.1.0")


@contextlib.contextmanager
def dropping(port: int) -> Iterator[None]:
    """5 % of the packets to the proxy get lost."""
    rule = ["INPUT", "-i", "lo", "-p", "tcp", "--dport", str(port)]
    rule += ["-m", "statistic", "--mode", "random", "--probability", "0.05", "-j", "DROP"]
    subprocess.run(["iptables", "-I", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "-D", *rule], check=True)


def test_one_flipped_bit_on_the_wire(board: Board, chance: random.Random, amount: Amount, tally: Any) -> None:
    """SSH notices, ends the connection, and nothing of it is taken."""
    row = "flipped bits in what is sent"
    for _ in range(max(1, amount(row) // 10)):
        board.reset()
        board.proxy.flip_at = chance.randrange(1_000, board.cost)
        with tally.fault("flipped bits on the wire"):
            first = board.push()
            board.check("1.0.0", "1.1.0")
            board.proxy.flip_at = None
            second = board.push()
            assert second.outcome in ("activated", "unchanged"), (first, second)
            board.check("1.1.0")


def test_a_lost_answer_makes_the_next_push_a_no_op(board: Board, tally: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    board.reset()
    real = Session.call

    def deaf(self: Session, verb: str, *rest: Any) -> Any:
        reply = real(self, verb, *rest)
        if verb == "activate":
            from edgepack.errors import BoardError

            raise BoardError("the answer was lost")
        return reply

    monkeypatch.setattr(Session, "call", deaf)
    with tally.fault("lost answers"):
        assert board.push().outcome == "failed"
        monkeypatch.undo()
        again = board.push()
        assert (again.outcome, again.bytes_sent) == ("unchanged", 0), again
