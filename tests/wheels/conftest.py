"""An index of our own: wheels with libraries that need what a test says, served to the real pip by its find-links."""

from __future__ import annotations

import http.server
import struct
import threading
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")


def library(*versions: str, weak: Iterable[str] = ()) -> bytes:
    """A 64-bit ELF library that needs these symbol versions of libc.so.6: `.dynstr`, `.gnu.version_r` and nothing else.

    Layout of Elf64_Ehdr, Elf64_Shdr, Elf64_Verneed and Elf64_Vernaux as in the System V ABI and the LSB.
    """
    strings = b"\0libc.so.6\0"
    wanted: list[tuple[int, int]] = []
    for version in (*versions, *weak):
        wanted.append((len(strings), 0x2 if version in weak else 0))
        strings += version.encode() + b"\0"
    need = struct.pack("<HHIII", 1, len(wanted), 1, 16, 0)
    for i, (name, flags) in enumerate(wanted):
        need += struct.pack("<IHHII", 0, flags, i + 2, name, 16 if i + 1 < len(wanted) else 0)
    names = b"\0.dynstr\0.gnu.version_r\0.shstrtab\0"
    at = 64
    places = []
    for part in (strings, need, names):
        places.append((at, len(part)))
        at += len(part)
    sections = [
        (0, 0, (0, 0), 0, 0),
        (1, 3, places[0], 0, 0),
        (9, 0x6FFFFFFE if wanted else 0, places[1], 1, 1),
        (24, 3, places[2], 0, 0),
    ]
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 0, at, 0, 64, 0, 0, 64, len(sections), 3)
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, offset, size, link, info, 1, 0)
        for name, kind, (offset, size), link, info in sections
    )
    return head + strings + need + names + table


@dataclass
class Index:
    """A folder that pip looks into."""

    folder: Path

    def add(
        self, name: str, version: str, tags: str, *needs: str, requires: Iterable[str] = (), extra: bytes = b""
    ) -> Path:
        """A wheel whose one library needs these versions of glibc."""
        module = name.replace("-", "_")
        info = f"{module}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
        metadata += [f"Requires-Dist: {requirement}\n" for requirement in requires]
        path = self.folder / f"{module}-{version}-{tags}.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for file, data in {
                f"{module}/__init__.py": b"",
                f"{module}/_lib.cpython-311.so": library(*(f"GLIBC_{need}" for need in needs)),
                f"{module}.libs/README.so.txt": b"not a library" + extra,
                f"{info}/METADATA": "".join(metadata).encode(),
                f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\n",
                f"{info}/RECORD": b"",
            }.items():
                wheel.writestr(file, data)
        return path


@dataclass
class Heard:
    """Progress that remembers."""

    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.steps.append(title)
        yield

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        self.steps.append(title)
        yield from items

    def note(self, message: str) -> None:
        self.notes.append(message)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPACK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Index:
    """pip sees this index and nothing else of the user's configuration."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index at a port that nobody listens on."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "2")


@contextmanager
def answering(status: int) -> Iterator[str]:
    """An index that answers every question with one status; its address."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()
        thread.join()


@pytest.fixture(params=[404, 503])
def answers(request: pytest.FixtureRequest, unreachable: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with answering(request.param) as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        yield request.param
