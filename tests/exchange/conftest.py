"""A real registry server on a free loopback port, and bundles to send there."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import numpy as np
import pytest

from edgepack import digest
from edgepack.bundle import Bundle, pack, write_golden
from edgepack.digest import Digest
from edgepack.manifest import SourceRecord
from edgepack.profile import RuntimeRange
from tests.manifests import manifest_of, variant_of

_SECONDS = 20
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{auth}
"""
_AUTH = "auth: {{htpasswd: {{realm: tests, path: {file}}}}}"


@dataclass(frozen=True)
class Server:
    """host: as a reference names it; root: where its blobs are on disk"""

    host: str
    root: Path
    process: subprocess.Popen[bytes]

    def blob(self, blob: Digest) -> Path:
        hexadecimal = digest.hex_of(blob)
        return self.root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def serve(folder: Path, login: tuple[str, str] | None = None) -> Server:
    port, auth = free_port(), ""
    if login:
        file = folder / "htpasswd"
        file.write_text(f"{login[0]}:{bcrypt.hashpw(login[1].encode(), bcrypt.gensalt(4, b'2a')).decode()}\n")
        auth = _AUTH.format(file=file)
    config = folder / "registry.yml"
    config.write_text(_CONFIG.format(root=folder / "data", port=port, auth=auth))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", config], stdout=log, stderr=log)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return Server(f"127.0.0.1:{port}", folder / "data", process)
        except OSError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError((folder / "log").read_text())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = serve(tmp_path_factory.mktemp("registry"))
    yield found
    found.process.send_signal(signal.SIGKILL)
    found.process.wait()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A registry that wants a login: anna, secret."""
    found = serve(tmp_path_factory.mktemp("guarded"), ("anna", "secret"))
    yield found
    found.process.send_signal(signal.SIGKILL)
    found.process.wait()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a store of the test's own, and no login of whoever runs it."""
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path / "home"


def write_login(folder: Path, host: str, user: str, password: str) -> None:
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


MakeBundle = Callable[..., Bundle]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """make_bundle(version, name=…, model=…, profile=…): a bundle of made-up bytes."""

    def make(
        version: str = "1.0.0",
        *,
        name: str = "kws",
        model: bytes = b"TFL3" + bytes(5000),
        profile: str = "rpi4",
        score: float = 0.9,
        source: bytes = b"source",
    ) -> Bundle:
        golden = write_golden((np.zeros((1, 4), np.float32),), (np.ones((1, 2), np.float32),))
        manifest = manifest_of(
            name,
            version,
            profile,
            [variant_of(f"{name}.{profile}.fp32.tflite", model, golden, score=score, drop=0.0)],
            outputs=2,
            source=SourceRecord("torch", digest.of_bytes(source), ()),
            labels=("no", "yes"),
            metric="top1",
            baseline=0.9,
            runtimes={"litert": RuntimeRange(">=2.1,<3")},
        )
        blobs = {digest.of_bytes(data): data for data in (model, golden)}
        return pack(manifest, blobs, tmp_path / "bundles")

    return make


@pytest.fixture
def login(tmp_path: Path) -> Callable[[str, str, str], None]:
    """login(host, user, password): what `docker login` writes."""
    return lambda host, user, password: write_login(tmp_path / "docker", host, user, password)
