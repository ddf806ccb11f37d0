"""A loopback board as a stranger's SSH client sees it, and what starting and ending one leaves behind."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest

from edgepack import boards
from edgepack.boards import keys, processes
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError, InputError, UsageError
from edgepack.target import Target, read_inventory

pytestmark = pytest.mark.board


@pytest.fixture(scope="module")
def shared(progress, test_home):
    """The board of all tests that leave it running and as it was."""
    (target,) = boards.up("boards-shared", "loopback", "", 1, progress)
    yield target
    boards.down("boards-shared", progress)


@pytest.fixture
def board(home, progress):
    """A board of the test's own, in a home of its own."""
    (target,) = boards.up("bench", "loopback", "", 1, progress)
    return target


def await_(what: Callable[[], bool], seconds: float = 20.0) -> bool:
    limit = time.monotonic() + seconds
    while not (seen := what()) and time.monotonic() < limit:
        time.sleep(0.02)
    return seen


def place(board: Target) -> Path:
    return Path(board.identity).parent


def alive(board: Target) -> int:
    """How many processes the board has, its server among them."""
    return len(processes.marked(str(place(board))))


# What a session sees


def test_a_command_runs_in_the_boards_own_world(shared, connected):
    with connected(shared) as link:
        answer = link.run('cat; echo oops >&2; pwd; echo "$HOME"; cat .edgepack-board; exit 7', b"given\n")
    home = str(place(shared) / "home")
    assert answer.status == 7
    assert answer.out.splitlines() == ["given", home, home, "loopback"]
    assert answer.err == "oops\n"


def test_the_environment_is_scrubbed(shared, connected):
    with connected(shared) as link:
        names = {line.partition("=")[0] for line in link.run("env").out.splitlines()}
    assert names == {"HOME", "PATH", "USER", "LOGNAME", "SHELL", "LANG", "PWD", processes.MARK}


def test_python_is_the_one_below_any_virtual_environment(shared, connected):
    with connected(shared) as link:
        assert link.run("command -v python3").out.strip().endswith("boards-shared/bin/python3")
        told = link.run("python3 -c 'import sys; print(sys.prefix == sys.base_prefix, sys.version_info[:3])'").out
        made = link.run("python3 -m venv --without-pip v && v/bin/python -c 'import json, sys; print(sys.prefix)'")
    assert told == f"True {sys.version_info[:3]}\n"
    assert made.status == 0 and made.out.strip().endswith("/home/v"), made


def test_a_killed_command_says_so(shared, connected):
    with connected(shared) as link:
        assert link.run("kill -9 $$").status == 128 + signal.SIGKILL


def test_a_command_that_cannot_start_is_answered(shared, connected):
    with connected(shared) as link:
        answer = link.run("echo " + "x" * (1 << 18))  # above Linux's limit for one argument
    assert answer.status == 126 and "cannot start" in answer.err


def test_bytes_arrive_as_they_were(shared, connected):
    blob = os.urandom(5_000_003)
    with connected(shared) as link:
        channel = link.open("tee copy")
        sender = threading.Thread(target=lambda: (channel.sendall(blob), channel.shutdown_write()))
        sender.start()
        echoed = channel.makefile("rb").read()
        sender.join()
        assert channel.recv_exit_status() == 0
        assert echoed == blob
        assert link.run("wc -c < copy").out.strip() == str(len(blob))


def test_a_slow_reader_holds_the_sender_back(shared, connected):
    """Data that nobody reads must stay with the sender, or a large push would fill the board's memory."""
    with connected(shared) as link:
        channel = link.open("sleep 60")
        channel.settimeout(1.0)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 64 << 20:
                sent += channel.send(bytes(1 << 17))
        assert sent < 8 << 20


def test_a_command_that_stops_reading_does_not_stop_the_sender(shared, connected):
    with connected(shared) as link:
        channel = link.open("exec <&-; sleep 2; echo done")
        channel.sendall(bytes(4 << 20))
        channel.shutdown_write()
        assert channel.makefile("rb").read() == b"done\n"
        assert channel.recv_exit_status() == 0


def test_many_channels_and_connections_at_once(shared, connected):
    def talk(number: int) -> str:
        with connected(shared) as link, ThreadPoolExecutor(4) as pool:
            words = pool.map(lambda part: link.run("sleep 0.1; cat", f"{number}.{part} ".encode()).out, range(4))
            return "".join(words)

    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(talk, range(6)))
    assert said == ["".join(f"{number}.{part} " for part in range(4)) for number in range(6)]


def test_a_closed_channel_takes_its_process_group_along(shared, connected):
    with connected(shared) as link:
        channel = link.open("sleep 300 & sleep 301")
        assert await_(lambda: alive(shared) >= 4)  # the server, sh, both sleeps
        channel.close()
        assert await_(lambda: alive(shared) == 1)
    with connected(shared) as link:
        assert link.run("echo alive").out == "alive\n"


def test_a_cut_connection_takes_its_commands_along(shared, connected):
    with connected(shared) as link:
        link.open("sleep 302")
        assert await_(lambda: alive(shared) >= 2)
        link.transport.sock.shutdown(socket.SHUT_RDWR)
    assert await_(lambda: alive(shared) == 1)


# Who may come in


def test_a_strangers_key_is_refused(shared, tmp_path, connected):
    keys.make_pair(tmp_path / "stranger")
    with pytest.raises(paramiko.AuthenticationException), connected(shared, identity=str(tmp_path / "stranger")):
        pass


def test_another_user_is_refused(shared, connected):
    with pytest.raises(paramiko.AuthenticationException), connected(shared, user="nobody-known"):
        pass


def test_passwords_are_not_even_offered(shared):
    with socket.create_connection((shared.host, shared.port)) as link, paramiko.Transport(link) as transport:
        transport.start_client(timeout=20)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_none(getpass.getuser())
    assert refused.value.allowed_types == ["publickey"]


def test_a_shell_is_not_served(shared, connected):
    with connected(shared) as link, pytest.raises(paramiko.SSHException):
        link.transport.open_session(timeout=20).invoke_shell()


def test_a_board_is_a_bastion_to_another(board, home, progress, connected):
    (inner,) = boards.up("inner", "loopback", "", 1, progress)
    blob = os.urandom(3_000_001)
    with connected(board) as link:
        way = link.transport.open_channel("direct-tcpip", (inner.host, inner.port), ("127.0.0.1", 1))
        with connected(inner, through=way) as further:
            assert further.run("cat > sent; cat .edgepack-board; pwd", blob).out.endswith("inner/home\n")
        assert link.run("echo still").out == "still\n"
    assert (home / "boards/inner/home/sent").read_bytes() == blob


def test_a_bastion_says_what_it_cannot_reach(board, connected):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with connected(board) as link, pytest.raises(paramiko.ChannelException):
        link.transport.open_channel("direct-tcpip", ("127.0.0.1", port), ("127.0.0.1", 1))


def test_a_busy_connection_is_not_remembered(board, connected):
    """Hundreds of commands over one connection leave the server as it was."""
    (state,) = boards.listing()

    def held() -> tuple[int, int]:
        tasks = len(list(Path(f"/proc/{state.pid}/task").iterdir()))
        return tasks, len(list(Path(f"/proc/{state.pid}/fd").iterdir()))

    with connected(board) as link:
        link.run("true")
        before = held()
        for _ in range(100):
            assert link.run("true").status == 0
        assert await_(lambda: all(now <= then + 5 for now, then in zip(held(), before, strict=True))), (before, held())


def test_secrets_are_closed_to_others(board, home):
    for name in ("client_key", "host_key"):
        assert (home / "boards/bench" / name).stat().st_mode & 0o077 == 0
    assert (home / "boards/bench").stat().st_mode & 0o077 == 0


# Starting and ending


def test_the_inventory_says_what_up_returned(board, home):
    text = (home / "targets/bench.toml").read_text()
    assert read_inventory(text, "bench.toml") == (board,)
    assert board.board == "loopback" and board.labels == {"board": "bench", "kind": "loopback"}
    assert board.profile in ("linux-x86_64", "linux-aarch64")


def test_a_home_of_any_name_will_do(tmp_path, monkeypatch, progress, connected):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / 'a "quoted" héme, with: all'))
    (target,) = boards.up("odd", "loopback", "", 1, progress)
    try:
        text = (Path(os.environ["EDGEPACK_HOME"]) / "targets/odd.toml").read_text()
        assert read_inventory(text, "odd.toml") == (target,)
        with connected(target) as link:
            assert link.run("python3 -c 'print(1 + 1)'").out == "2\n"
    finally:
        boards.down("odd", progress)


def test_up_again_is_the_same_board(board, progress):
    before = boards.listing()
    assert boards.up("bench", "loopback", "", 1, progress) == (board,)
    assert boards.listing() == before


def test_a_crashed_board_comes_back_with_its_keys_and_disk(board, home, progress, connected):
    (state,) = boards.listing()
    with connected(board) as link:
        link.run("echo kept > file")
        link.open("setsid sleep 303")
        assert await_(lambda: alive(board) >= 2)
        os.kill(state.pid, signal.SIGKILL)
    assert await_(lambda: not boards.listing()[0].running)
    (again,) = boards.up("bench", "loopback", "", 1, progress)
    assert again.host_key == board.host_key
    assert alive(board) == 1, "what the crash left behind was not ended"
    with connected(again) as link:
        assert link.run("cat file").out == "kept\n"


def test_down_leaves_nothing(board, home, progress, connected):
    with connected(board) as link:
        link.open("setsid sleep 304")
        link.run("setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' > /dev/null 2>&1 < /dev/null &")
        assert await_(lambda: alive(board) >= 3)
        assert boards.down("bench", progress) == ("bench",)
    assert alive(board) == 0
    assert not (home / "boards/bench").exists()
    assert not (home / "targets/bench.toml").exists()
    assert boards.listing() == ()
    assert boards.down("bench", progress) == ()


def test_a_count_makes_numbered_boards_that_end_together(home, progress):
    started = boards.up("lab", "loopback", "", 3, progress)
    assert [target.name for target in started] == ["lab-1", "lab-2", "lab-3"]
    assert len({target.port for target in started}) == len({target.host_key for target in started}) == 3
    assert boards.up("lab", "loopback", "", 2, progress) == started[:2]
    assert boards.down("lab-2", progress) == ("lab-2",)
    assert boards.down("lab", progress) == ("lab-1", "lab-3")


def test_two_homes_do_not_meet(board, tmp_path, monkeypatch, progress, connected, home):
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "other"))
    (other,) = boards.up("bench", "loopback", "", 1, progress)
    assert (other.port, other.host_key) != (board.port, board.host_key)
    assert boards.down("bench", progress) == ("bench",)
    with connected(board) as link:
        assert link.run("echo still here").out == "still here\n"


def test_two_at_once_start_one_board(home, progress):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: boards.up("bench", "loopback", "", 1, progress), range(4)))
    assert len({answer[0].port for answer in answers}) == 1
    assert alive(answers[0][0]) == 1


def test_a_server_that_cannot_start_leaves_nothing(home, progress, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BoardError, match="did not start"):
        boards.up("bench", "loopback", "", 1, progress)
    assert not (home / "boards/bench").exists() and not (home / "targets/bench.toml").exists()


# What is refused


def test_a_users_own_target_is_not_overwritten(home, progress):
    (home / "targets").mkdir(parents=True)
    own = '[targets.bench]\nhost = "10.0.0.7"\nprofile = "rpi4"\n'
    (home / "targets/bench.toml").write_text(own)
    with pytest.raises(UsageError, match="no board"):
        boards.up("bench", "loopback", "", 1, progress)
    assert (home / "targets/bench.toml").read_text() == own


def test_a_board_does_not_change_its_kind(board, progress):
    with pytest.raises(UsageError, match="exists already"):
        boards.up("bench", "loopback", "rpi4", 1, progress)


@pytest.mark.parametrize("name", ["", "../x", "A b", "x" * 70])
def test_a_name_that_cannot_be_a_folder_is_refused(home, progress: Plain, name):
    with pytest.raises(InputError):
        boards.up(name, "loopback", "", 1, progress)


def test_a_broken_record_does_not_keep_a_board_from_ending(board, home, progress):
    (home / "boards/bench/board.json").write_text("{")
    assert boards.down("bench", progress) == ("bench",)
    assert alive(board) == 0
