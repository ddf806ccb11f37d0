"""Against a real registry server, with skopeo as the foreign client, both ways."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from edgepack import bundle, digest, exchange, references, signing, store, trust
from edgepack.bundle import Bundle, open_bundle
from edgepack.cli.progress import Plain
from edgepack.errors import BoardError, InputError, TrustError

pytestmark = pytest.mark.registry


def publish(source: Bundle, word: str, **options: object) -> exchange.Published:
    return exchange.publish(source, references.registry(word), progress=Plain(), **options)


def fetch(word: str) -> exchange.Fetched:
    return exchange.fetch(references.registry(word), progress=Plain())


def skopeo(*arguments: object) -> bytes:
    return subprocess.run(["skopeo", "--insecure-policy", *map(str, arguments)], check=True, capture_output=True).stdout


def test_what_we_publish_skopeo_reads_and_copies(server, home, make_bundle, tmp_path):
    source = make_bundle()
    done = publish(source, f"{server.host}/team/kws:1.0.0")
    assert (done.sent, done.had, done.unchanged) == (5, 0, False)
    raw = skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{server.host}/team/kws:1.0.0")
    assert digest.of_bytes(raw) == source.digest == done.digest
    copied = tmp_path / "copied.edgepack"
    skopeo("copy", "--src-tls-verify=false", f"docker://{server.host}/team/kws:1.0.0", f"oci-archive:{copied}")
    again = open_bundle(copied)
    again.verify()
    assert (again.digest, again.manifest_bytes) == (source.digest, source.manifest_bytes)


def test_what_skopeo_copies_there_we_fetch_byte_for_byte(server, home, make_bundle, tmp_path):
    source = make_bundle()
    skopeo("copy", "--dest-tls-verify=false", f"oci-archive:{source.path}", f"docker://{server.host}/theirs/kws:one")
    done = fetch(f"{server.host}/theirs/kws:one")
    assert (done.entry.digest, done.had) == (source.digest, 0)
    written = bundle.export(open_bundle(done.entry.path), tmp_path / "out")
    assert written.path.name == source.path.name
    assert written.path.read_bytes() == source.path.read_bytes()


def test_a_second_publish_sends_nothing_and_a_new_version_only_what_is_new(server, home, make_bundle):
    publish(make_bundle(), f"{server.host}/twice/kws:1.0.0")
    second = publish(make_bundle(), f"{server.host}/twice/kws:1.0.0")
    assert (second.sent, second.bytes, second.unchanged) == (0, 0, True)
    third = publish(make_bundle("1.1.0"), f"{server.host}/twice/kws:1.1.0")
    assert third.had >= 2 and third.bytes < 5000 and not third.unchanged


def test_fetching_again_or_what_the_store_shares_moves_little(server, home, make_bundle):
    publish(make_bundle(), f"{server.host}/again/kws:1")
    publish(make_bundle("1.1.0"), f"{server.host}/again/kws:2")
    first = fetch(f"{server.host}/again/kws:1")
    assert fetch(f"{server.host}/again/kws@{first.entry.digest}").received == 0
    assert fetch(f"{server.host}/again/kws:2").bytes < 5000


def test_a_tag_that_moved_is_noticed(server, home, make_bundle):
    one, two = make_bundle(), make_bundle("1.1.0")
    publish(one, f"{server.host}/moved/kws:stable")
    assert fetch(f"{server.host}/moved/kws:stable@{one.digest}").entry.digest == one.digest
    publish(two, f"{server.host}/moved/kws:stable")
    with pytest.raises(TrustError, match="the tag stable names"):
        fetch(f"{server.host}/moved/kws:stable@{one.digest}")
    assert fetch(f"{server.host}/moved/kws@{one.digest}").entry.digest == one.digest


def test_a_blob_that_was_changed_on_the_servers_disk_is_refused(server, home, make_bundle):
    source = make_bundle(model=b"TFL3" + bytes(range(256)) * 30)
    publish(source, f"{server.host}/tampered/kws:1")
    file = server.blob(source.manifest.variants[0].digest)
    data = bytearray(file.read_bytes())
    data[1000] ^= 1
    file.write_bytes(data)
    with pytest.raises(TrustError, match="other bytes"):
        fetch(f"{server.host}/tampered/kws:1")
    assert store.entries() == ()
    assert not [path for path in (home / "store/blobs").rglob("*") if path.is_file() and path.name in str(file)]


def test_a_manifest_that_was_changed_on_the_servers_disk_is_refused(server, home, make_bundle):
    source = make_bundle(name="changed")
    publish(source, f"{server.host}/tampered/manifest:1")
    file = server.blob(source.digest)
    file.write_bytes(file.read_bytes().replace(b'"1.0.0"', b'"9.0.0"'))
    with pytest.raises((TrustError, BoardError)):  # this server compares as well, and fails
        fetch(f"{server.host}/tampered/manifest:1")
    assert store.entries() == ()


def test_what_is_not_there_is_said(server, home, make_bundle):
    publish(make_bundle(), f"{server.host}/there/kws:1")
    with pytest.raises(InputError, match="knows no such thing"):
        fetch(f"{server.host}/there/kws:2")
    with pytest.raises(InputError, match="knows no such thing"):
        fetch(f"{server.host}/elsewhere/kws:1")


def test_an_image_of_something_else_is_refused(server, home, tmp_path):
    layout = tmp_path / "other"
    (layout / "blobs/sha256").mkdir(parents=True)
    config = b"{}"
    image = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest.of_bytes(config),
                "size": 2,
            },
            "layers": [],
        }
    ).encode()
    for data in (config, image):
        (layout / "blobs/sha256" / digest.hex_of(digest.of_bytes(data))).write_bytes(data)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    top = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": digest.of_bytes(image),
        "size": len(image),
    }
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{server.host}/other/image:1")
    with pytest.raises(InputError, match="no bundle"):
        fetch(f"{server.host}/other/image:1")


class TestLogin:
    def test_without_one_it_says_how_to_get_one(self, guarded, home, make_bundle):
        with pytest.raises(TrustError, match="refuses us without a login") as caught:
            publish(make_bundle(), f"{guarded.host}/team/kws:1")
        assert f"skopeo login {guarded.host}" in caught.value.advice

    def test_a_wrong_one_is_named_without_its_password(self, guarded, home, make_bundle, login):
        login(guarded.host, "anna", "wrong-password")
        with pytest.raises(TrustError, match="refuses us as 'anna'") as caught:
            publish(make_bundle(), f"{guarded.host}/team/kws:1")
        assert "wrong-password" not in str(caught.value)

    def test_docker_s_and_skopeo_s_files_work(self, guarded, home, make_bundle, login, tmp_path, monkeypatch):
        login(guarded.host, "anna", "secret")
        source = make_bundle()
        assert publish(source, f"{guarded.host}/team/kws:1").sent
        assert fetch(f"{guarded.host}/team/kws:1").entry.digest == source.digest
        file = tmp_path / "auth.json"
        skopeo("login", "--tls-verify=false", "--authfile", file, "-u", "anna", "-p", "secret", guarded.host)
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(file))
        assert publish(source, f"{guarded.host}/team/kws:1").unchanged

    def test_a_credential_helper_is_asked(self, guarded, home, make_bundle, tmp_path, monkeypatch):
        helper = tmp_path / "bin/docker-credential-mine"
        helper.parent.mkdir()
        helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "anna", "Secret": "secret"}\'\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{helper.parent}:{os.environ['PATH']}")
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker/config.json").write_text(json.dumps({"credHelpers": {guarded.host: "mine"}}))
        assert publish(make_bundle(), f"{guarded.host}/helped/kws:1").sent


SLOW_PUBLISH = """
import sys, time
from pathlib import Path
from edgepack import exchange, references, registry
from edgepack.bundle import open_bundle
from edgepack.cli.progress import Plain
from edgepack.registry import client

send = client.Registry.put_blob
class Slow:
    def __init__(self, stream): self.stream = stream
    def seek(self, *place): return self.stream.seek(*place)
    def read(self, size=-1):
        print("read", flush=True); time.sleep(0.02)
        return self.stream.read(size)
client.Registry.put_blob = lambda self, blob, size, stream: send(self, blob, size, Slow(stream))
exchange.publish(open_bundle(Path(sys.argv[1])), references.registry(sys.argv[2]), progress=Plain())
"""


def test_a_publish_that_was_killed_goes_on(server, home, make_bundle, tmp_path):
    chance = random.Random(3)
    source = make_bundle(name="big", model=chance.randbytes(3 << 20))
    word = f"{server.host}/killed/kws:1"
    victim = subprocess.Popen(
        [sys.executable, "-c", SLOW_PUBLISH, source.path, word], stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    for _ in range(40):
        victim.stdout.readline()
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    with pytest.raises(InputError, match="knows no such thing"):
        fetch(word)
    done = publish(source, word)
    assert done.sent >= 1 and not done.unchanged
    assert fetch(word).entry.digest == source.digest
    open_bundle(store.find("big").path).verify()


def test_a_fetch_that_was_killed_keeps_what_it_has(server, home, make_bundle):
    source = make_bundle(name="half", model=b"TFL3" + bytes(100_000))
    word = f"{server.host}/killed/half:1"
    publish(source, word)
    code = (
        "import os, sys\nfrom edgepack import exchange, references\nfrom edgepack.cli.progress import Plain\n"
        "from edgepack.store import staging\nbefore = staging.Staging._accept\ncount = 0\n"
        "def accept(self, fresh, blob):\n"
        "    global count\n    before(self, fresh, blob); count += 1\n    count == 3 and os.kill(os.getpid(), 9)\n"
        "staging.Staging._accept = accept\n"
        "exchange.fetch(references.registry(sys.argv[1]), progress=Plain())\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, word], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert store.entries() == ()
    done = fetch(word)
    assert done.had >= 3 and done.entry.digest == source.digest
    assert list((home / "store/staging").glob("tmp*")) != []
    store.gc()
    assert list((home / "store/staging").glob("tmp*")) == []
    open_bundle(done.entry.path).verify()


def test_an_unreachable_registry_is_said_at_once(home, make_bundle):
    start = time.monotonic()
    with pytest.raises(BoardError, match=r"127\.0\.0\.1:1: the registry cannot be reached"):
        publish(make_bundle(), "127.0.0.1:1/team/kws:1")
    assert time.monotonic() - start < 5


def test_a_published_bundle_leaves_the_store_as_it_came(server, home, make_bundle, tmp_path):
    entry = store.add(make_bundle(), "test")
    publish(open_bundle(entry.path), f"{server.host}/store/kws:1")
    skopeo("copy", f"oci:{entry.path}", f"oci-archive:{tmp_path / 'by-skopeo.edgepack'}")
    assert open_bundle(tmp_path / "by-skopeo.edgepack").digest == entry.digest


class TestSignature:
    @pytest.fixture
    def signed(self, make_bundle, tmp_path):
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        source = make_bundle(name="signed")
        return source, signing.sign(source, trust.load_signer(key, lambda _: ""), signing.Terms())

    def test_it_travels_where_the_registry_knows_no_referrers(self, server, home, signed, tmp_path):
        unsigned, source = signed
        assert source.digest == unsigned.digest and len(source.signatures) == 1
        word = f"{server.host}/signed/kws:1"
        assert publish(source, word).signatures == 1
        assert publish(source, word).unchanged
        done = fetch(word)
        assert done.signatures == 1 and done.entry.signed
        got = open_bundle(done.entry.path)
        assert got.signatures == source.signatures
        assert bundle.export(got, tmp_path / "out").path.read_bytes() == source.path.read_bytes()
        tag = source.digest.replace(":", "-")
        listed = json.loads(
            skopeo("inspect", "--tls-verify=false", "--raw", f"docker://{server.host}/signed/kws:{tag}")
        )
        assert [one["digest"] for one in listed["manifests"]] == list(source.signatures)

    def test_one_that_comes_later_joins_what_is_there(self, server, home, signed):
        _, source = signed
        word = f"{server.host}/later/kws:1"
        for blob in source.signatures:
            assert blob in bundle.contents(source).blobs()
        bare = bundle.Contents(bundle.contents(source).image, (), "1.0.0")
        with store.stage() as staging:
            for blob, size in bare.blobs().items():
                with source.open_blob(blob) as stream:
                    staging.put(blob, size, stream)
            unsigned = store.keep(staging, bare, "test")
        assert publish(open_bundle(unsigned.path), word).signatures == 0 and not fetch(word).entry.signed
        later = publish(source, word)
        assert (later.unchanged, later.signatures) == (False, 1)
        assert fetch(word).entry.signed and store.find("signed").signed
        open_bundle(store.find("signed").path).verify()
