"""Keys that OpenSSH made, and a home of the test's own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MakeKey = Callable[..., Path]


@pytest.fixture
def make_key(tmp_path: Path) -> MakeKey:
    """make_key(name, kind="ed25519", passphrase=""): a private key file; its public half lies beside it."""

    def make(name: str = "key", kind: str = "ed25519", passphrase: str = "") -> Path:
        path = tmp_path / name
        command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", f"{name}@test", "-f", path]
        subprocess.run(command, check=True)
        return path

    return make


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return tmp_path / "home"


@pytest.fixture
def agent(tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """A real ssh-agent; call it with a key file to add."""
    socket = tmp_path / "agent.sock"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL) as process:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        while not socket.exists():
            assert process.poll() is None

        def add(key: Path) -> None:
            subprocess.run(["ssh-add", "-q", key], check=True, env=dict(os.environ), stdin=subprocess.DEVNULL)

        yield add
        process.terminate()
