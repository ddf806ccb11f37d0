"""A registry that lies: refused with the right family of error, in time, with nothing kept and nothing told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from edgepack import bundle, digest, exchange, references, store
from edgepack.bundle import open_bundle
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError, EdgepackError, InputError, TrustError

IMAGE = "application/vnd.oci.image.manifest.v1+json"
Answer = tuple[int, dict[str, str], bytes]


class Evil(ThreadingHTTPServer):
    """answer: what it says to (method, path); seen: method, path and headers of every request"""

    daemon_threads = True
    answer: Callable[[str, str], Answer]
    seen: list[tuple[str, str, dict[str, str]]]

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Evil

    def _reply(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        status, headers, body = self.server.answer(self.command, self.path)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = _reply

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def evil(home: Path) -> Iterator[Evil]:
    server = Evil(("127.0.0.1", 0), _Handler)
    server.seen = []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def fetch(server: Evil) -> exchange.Fetched:
    return exchange.fetch(references.registry(f"{server.host}/a/b:1"), progress=Plain())


class Honest:
    """What a registry says that holds one bundle, to be bent by a test."""

    def __init__(self, source: bundle.Bundle) -> None:
        pieces = bundle.contents(source)
        self.image = pieces.image.data
        self.blobs = {blob: source.read_blob(blob, 1 << 20) for blob in pieces.image.blobs}
        self.kind, self.extra = IMAGE, dict[str, str]()

    def __call__(self, method: str, path: str) -> Answer:
        name = path.rpartition("/")[2]
        if "/manifests/sha256-" in path or "/referrers/" in path:
            return 404, {}, b""
        if "/manifests/" in path:
            return 200, {"Content-Type": self.kind, **self.extra}, self.image
        if name in self.blobs:
            return 200, self.extra, self.blobs[name]
        return 404, {}, b""

    def bend(self, change: Callable[[dict], object]) -> None:
        document = json.loads(self.image)
        change(document)
        self.image = json.dumps(document).encode()


@pytest.fixture
def honest(make_bundle) -> Honest:
    return Honest(make_bundle())


def set_layer(**values: object) -> Callable[[dict], object]:
    return lambda document: document["layers"][1].update(values)


BENT: dict[str, Callable[[dict], object]] = {
    "a path for a digest": set_layer(digest="sha256:../../../../etc/passwd"),
    "a digest of another kind": set_layer(digest="md5:" + "0" * 32),
    "a digest in capitals": set_layer(digest="sha256:" + "A" * 64),
    "a size below nothing": set_layer(size=-1),
    "a size that no blob has": set_layer(size=1 << 40),
    "a size that no disk has": lambda d: (
        [layer.update(size=(8 << 30) - 1) for layer in d["layers"]]
        or d["layers"].extend({**d["layers"][1], "digest": f"sha256:{i:064x}"} for i in range(900))
    ),
    "a size that is no number": set_layer(size="many"),
    "thousands of layers": lambda d: d["layers"].extend(
        {**d["layers"][1], "digest": f"sha256:{i:064x}", "size": 0} for i in range(3000)
    ),
    "no runtime manifest": lambda d: d["layers"].pop(0),
    "two runtime manifests": lambda d: d["layers"].append({**d["layers"][0], "digest": "sha256:" + "1" * 64}),
    "another artifact": lambda d: d.update(artifactType="application/vnd.other"),
    "one blob with two sizes": lambda d: d["layers"].append({**d["layers"][1], "size": 1}),
    "an endless runtime manifest": lambda d: d["layers"][0].update(size=1 << 30),
    "another version": lambda d: d["annotations"].update({"org.opencontainers.image.version": "9.9.9"}),
}


@pytest.mark.parametrize("kind", BENT)
def test_a_bent_manifest_is_refused(evil, honest, kind):
    honest.bend(BENT[kind])
    evil.answer = honest
    with pytest.raises(InputError):
        fetch(evil)
    assert store.entries() == ()


def test_this_registry_is_honest_until_a_test_bends_it(evil, honest):
    evil.answer = honest
    assert fetch(evil).entry.name == "kws"


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 100_000, b'{"schemaVersion":2}', b"\xff\xfe"])
def test_what_is_no_manifest_is_refused(evil, honest, data):
    honest.image, evil.answer = data, honest
    with pytest.raises(InputError):
        fetch(evil)


def test_a_list_of_images_is_refused(evil, honest):
    honest.kind, evil.answer = "application/vnd.oci.image.index.v1+json", honest
    with pytest.raises(InputError, match="no bundle"):
        fetch(evil)


def test_a_manifest_of_any_size_is_not_read(evil, honest):
    honest.image, evil.answer = b" " * (5 << 20), honest
    with pytest.raises(InputError, match="too large"):
        fetch(evil)


def test_a_manifest_that_is_not_the_digest_that_was_asked_for(evil, honest):
    evil.answer = honest
    wanted = references.registry(f"{evil.host}/a/b@sha256:{'1' * 64}")
    with pytest.raises(TrustError, match="other bytes"):
        exchange.fetch(wanted, progress=Plain())


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 100_000])
def test_a_blob_with_fewer_more_or_other_bytes(evil, honest, body):
    biggest = max(honest.blobs, key=lambda blob: len(honest.blobs[blob]))
    honest.blobs[biggest], evil.answer = body, honest
    with pytest.raises((TrustError, BoardError)):
        fetch(evil)
    assert store.entries() == ()


def test_a_blob_without_end_is_left_soon(evil, honest):
    biggest = max(honest.blobs, key=lambda blob: len(honest.blobs[blob]))
    honest.blobs[biggest], evil.answer = bytes(64 << 20), honest
    start = time.monotonic()
    with pytest.raises(TrustError):
        fetch(evil)
    assert time.monotonic() - start < 5


def test_compressed_answers_are_not_unpacked(evil, honest):
    honest.extra, evil.answer = {"Content-Encoding": "gzip"}, honest
    with pytest.raises(TrustError, match="compressed"):
        fetch(evil)


def test_a_circle_of_redirects_ends(evil):
    evil.answer = lambda method, path: (307, {"Location": path + "x"}, b"")
    with pytest.raises(BoardError, match="circle"):
        fetch(evil)
    assert len(evil.seen) < 10


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/", "//", "http://[::1"])
def test_a_redirect_to_what_is_no_web_address(evil, target):
    evil.answer = lambda method, path: (307, {"Location": target}, b"")
    with pytest.raises(EdgepackError) as caught:
        fetch(evil)
    assert caught.value.exit_code in (5, 6)


def test_a_login_is_not_told_to_another_host(evil, honest, login):
    other = Evil(("127.0.0.1", 0), _Handler)
    other.seen, other.answer = [], honest
    thread = threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    login(evil.host, "anna", "secret")

    def answer(method: str, path: str) -> Answer:
        if "Authorization" not in evil.seen[-1][2]:
            return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
        return 307, {"Location": f"http://{other.host}{path}"}, b""

    evil.answer = answer
    try:
        fetch(evil)
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
    assert other.seen and not [headers for _, _, headers in other.seen if "Authorization" in headers]
    assert [headers for _, _, headers in evil.seen if "Authorization" in headers]


def test_a_token_is_asked_for_where_the_challenge_says_and_shown(evil, honest, login):
    login(evil.host, "anna", "secret")

    def answer(method: str, path: str) -> Answer:
        headers = evil.seen[-1][2]
        if path.startswith("/token"):
            assert headers.get("Authorization", "").startswith("Basic ") and "repository%3Aa%2Fb%3Apull" in path
            return 200, {}, b'{"token": "abc"}'
        if headers.get("Authorization") != "Bearer abc":
            realm = f'Bearer realm="http://{evil.host}/token",service="s",scope="repository:a/b:pull"'
            return 401, {"WWW-Authenticate": realm}, b""
        return honest(method, path)

    evil.answer = answer
    assert fetch(evil).entry.name == "kws"
    assert sum(path.startswith("/token") for _, path, _ in evil.seen) == 1


def test_errors_of_a_registry_reach_people_without_its_control_characters(evil):
    body = json.dumps({"errors": [{"code": "X", "message": "\x1b[31mgive me your key\x07"}]}).encode()
    evil.answer = lambda method, path: (500, {}, body)
    with pytest.raises(BoardError) as caught:
        fetch(evil)
    assert "give me your key" in str(caught.value) and "\x1b" not in str(caught.value)


def test_a_signature_of_something_else_is_left_there(evil, honest, capfd):
    other = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": IMAGE,
            "artifactType": bundle.SIGNATURE,
            "config": {"mediaType": "x", "digest": digest.of_bytes(b"{}"), "size": 2},
            "layers": [],
            "subject": {"mediaType": IMAGE, "digest": "sha256:" + "2" * 64, "size": 7},
        }
    ).encode()
    listed = {
        "digest": digest.of_bytes(other),
        "size": len(other),
        "mediaType": IMAGE,
        "artifactType": bundle.SIGNATURE,
    }

    def answer(method: str, path: str) -> Answer:
        if "/referrers/" in path:
            kind = {"Content-Type": "application/vnd.oci.image.index.v1+json"}
            return 200, kind, json.dumps({"schemaVersion": 2, "manifests": [listed]}).encode()
        if path.endswith(digest.of_bytes(other)):
            return 200, {"Content-Type": IMAGE}, other
        return honest(method, path)

    evil.answer = answer
    done = fetch(evil)
    assert (done.signatures, open_bundle(done.entry.path).signatures) == (0, ())
    assert "left out" in capfd.readouterr().err
