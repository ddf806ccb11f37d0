"""Blobs that arrive whole, cut off, damaged, twice, or on a board without room; the agent runs as a process of its own."""

from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgepack.remote import agent_pyz

PYTHON = getattr(sys, "_base_executable", sys.executable)
DATA = bytes(range(251)) * 5000  # 1.2 MB
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()
SMALL = b"small"
SMALL_DIGEST = "sha256:" + hashlib.sha256(SMALL).hexdigest()
EMPTY_DIGEST = "sha256:" + hashlib.sha256(b"").hexdigest()


class Board:
    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self._pyz = folder / "agent.pyz"
        self._pyz.write_bytes(agent_pyz())

    def ask(self, verb: str, request: Any, data: bytes = b"", **options: Any) -> dict[str, Any]:
        command = [PYTHON, "-I", "-S", self._pyz, verb, self.root, "60"]
        done = subprocess.run(
            command, input=json.dumps(request).encode() + b"\n" + data, capture_output=True, **options
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        reply: dict[str, Any] = json.loads(done.stdout)
        return reply

    def receive(self, data: bytes, *parts: tuple[str, int, int], **options: Any) -> dict[str, Any]:
        blobs = [{"digest": digest, "size": size, "offset": offset} for digest, size, offset in parts]
        return self.ask("receive", {"blobs": blobs}, data, **options)

    def state(self, digest: str = DIGEST) -> tuple[int, bool]:
        (state,) = self.ask("facts", {"blobs": [digest]})["blobs"]
        return state["bytes"], state["complete"]


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path)


def test_several_blobs_in_one_stream(board: Board) -> None:
    parts = [(DIGEST, len(DATA), 0), (EMPTY_DIGEST, 0, 0), (SMALL_DIGEST, len(SMALL), 0)]
    assert board.receive(DATA + SMALL, *parts) == {"bytes": len(DATA) + len(SMALL)}
    assert board.state() == (len(DATA), True) and board.state(EMPTY_DIGEST) == (0, True)
    assert (board.root / "blobs/sha256" / SMALL_DIGEST[7:]).read_bytes() == SMALL
    assert board.receive(DATA, (DIGEST, len(DATA), 0)) == {"bytes": len(DATA)}, "sent twice: nothing is wrong with that"


@pytest.mark.parametrize("share", [0, 0.01, 0.25, 0.5, 0.99])
def test_a_cut_keeps_what_came_and_goes_on_there(board: Board, share: float) -> None:
    arrived = int(len(DATA) * share)
    reply = board.receive(DATA[:arrived], (DIGEST, len(DATA), 0))
    assert reply["error"]["kind"] == "board" and "ended" in reply["error"]["what"]
    assert board.state() == (arrived, False)
    assert board.receive(DATA[arrived:], (DIGEST, len(DATA), arrived)) == {"bytes": len(DATA) - arrived}
    assert board.state() == (len(DATA), True)


def test_another_sender_cannot_go_on_in_the_wrong_place(board: Board) -> None:
    board.receive(DATA[:1000], (DIGEST, len(DATA), 0))
    reply = board.receive(DATA[500:], (DIGEST, len(DATA), 500))
    assert "1000 bytes are here" in reply["error"]["what"]
    assert board.state() == (1000, False)


@pytest.mark.parametrize("at", [0, 600_000, len(DATA) - 1])
def test_one_flipped_bit_is_refused_and_forgotten(board: Board, at: int) -> None:
    evil = bytearray(DATA)
    evil[at] ^= 1
    reply = board.receive(bytes(evil), (DIGEST, len(DATA), 0))
    assert reply["error"]["kind"] == "trust"
    assert board.state() == (0, False)


def test_a_torn_partial_is_noticed_at_the_end(board: Board) -> None:
    board.receive(DATA[:100_000], (DIGEST, len(DATA), 0))
    partial = board.root / "blobs/partial" / DIGEST[7:]
    partial.write_bytes(bytes(100_000))
    assert board.receive(DATA[100_000:], (DIGEST, len(DATA), 100_000))["error"]["kind"] == "trust"
    assert board.receive(DATA, (DIGEST, len(DATA), 0)) == {"bytes": len(DATA)}


def test_a_disk_that_fills_up_midway_keeps_no_half(board: Board) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))

    reply = board.receive(DATA, (DIGEST, len(DATA), 0), preexec_fn=limited)
    assert reply["error"]["kind"] == "board" and "receive failed" in reply["error"]["what"]
    assert board.state() == (0, False)


def test_more_than_the_disk_holds_is_refused_before_the_first_byte(board: Board) -> None:
    reply = board.receive(b"", (DIGEST, 1 << 60, 0))
    assert "not enough space" in reply["error"]["what"] and str(1 << 60) in reply["error"]["what"]
    assert not list((board.root / "blobs/partial").iterdir())


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64, "x"])
def test_a_digest_that_is_a_path_is_refused(board: Board, digest: str) -> None:
    assert board.receive(b"x", (digest, 1, 0))["error"]["kind"] == "input"


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.root.write_text("a file is in the way")
    reply = board.receive(SMALL, (SMALL_DIGEST, len(SMALL), 0))
    assert reply["error"]["kind"] == "board" and str(board.root) in reply["error"]["what"]


@pytest.mark.parametrize("python", ["python3.9", "python3.10", "python3.12", "python3.13"])
def test_the_agent_starts_on_other_pythons(tmp_path: Path, python: str) -> None:
    found = sorted(Path(PYTHON).resolve().parents[2].glob(f"{python.removeprefix('python')}.*/bin/{python}"))
    if not found:
        pytest.skip(f"no {python} on this machine")
    pyz = tmp_path / "agent.pyz"
    pyz.write_bytes(agent_pyz())
    done = subprocess.run([found[0], "-I", "-S", pyz, "facts", tmp_path, "60"], input=b"{}", capture_output=True)
    assert json.loads(done.stdout)["python"].startswith(python.removeprefix("python")), done.stderr


def test_the_agent_is_the_same_bytes_every_time_and_small_in_memory(tmp_path: Path) -> None:
    code = "import sys; from edgepack.remote import agent_pyz; sys.stdout.buffer.write(agent_pyz())"
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    assert again == agent_pyz()
    pyz = tmp_path / "agent.pyz"
    pyz.write_bytes(again)
    measure = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.DEVNULL, check=True)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    header = json.dumps({"blobs": [{"digest": DIGEST, "size": len(DATA)}]}).encode() + b"\n"
    for verb, data in (("facts", b"{}\n"), ("receive", header + DATA), ("status", b"{}\n")):
        agent = [PYTHON, "-I", "-S", pyz, verb, tmp_path / "root", "60"]
        done = subprocess.run([PYTHON, "-c", measure, *agent], input=data, capture_output=True, check=True)
        assert int(done.stdout) < 30 * 1024, f"{verb} took {int(done.stdout) // 1024} MB"
