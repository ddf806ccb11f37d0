"""The store: what goes in comes out byte for byte, what is shared is kept once, and nobody needs to wait for anybody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edgepack import digest, store
from edgepack.bundle import export, open_bundle
from edgepack.errors import InputError, TrustError


def blobs(home: Path) -> set[str]:
    return {path.name for path in (home / "store/blobs/sha256").glob("*")}


def test_what_goes_in_comes_out(home, make_bundle, tmp_path):
    source = make_bundle()
    entry = store.add(source, "test")
    assert store.add(source, "again") == entry == store.find("kws")
    kept = open_bundle(entry.path)
    kept.verify()
    assert (kept.digest, kept.manifest) == (source.digest, source.manifest)
    assert export(kept, tmp_path / "out").path.read_bytes() == source.path.read_bytes()


def test_what_is_shared_is_on_the_disk_once(home, make_bundle):
    one, two = store.add(make_bundle(), "t"), store.add(make_bundle("1.1.0"), "t")
    model = digest.hex_of(open_bundle(one.path).manifest.variants[0].digest)
    files = [entry.path / "blobs/sha256" / model for entry in (one, two)]
    assert files[0].samefile(files[1]) and files[0].samefile(home / "store/blobs/sha256" / model)
    assert not os.access(files[0], os.W_OK) or os.geteuid() == 0


def test_a_broken_bundle_does_not_come_in(home, make_bundle):
    source = make_bundle(model=b"TFL3" + bytes(range(256)) * 9)
    data = bytearray(source.path.read_bytes())
    data[data.find(bytes(range(256)))] ^= 1
    source.path.write_bytes(data)
    with pytest.raises(TrustError):
        store.add(open_bundle(source.path), "test")
    assert store.entries() == () and not list((home / "store/staging").glob("tmp*"))


def test_a_blob_that_rotted_is_replaced_for_the_next(home, make_bundle):
    one = make_bundle()
    store.add(one, "t")
    model = one.manifest.variants[0].digest
    kept = home / "store/blobs/sha256" / digest.hex_of(model)
    kept.chmod(0o644)
    kept.write_bytes(b"rot" + kept.read_bytes()[3:])
    two = store.add(make_bundle("1.1.0"), "t")
    open_bundle(two.path).verify()
    assert digest.of_file(kept) == model


def test_names_find_the_highest_version_and_the_last_build(home, make_bundle):
    store.add(make_bundle("1.10.0"), "t")
    store.add(make_bundle("1.9.0"), "t")
    older = store.add(make_bundle("1.9.0-rc.1"), "t")
    last = store.add(make_bundle("1.10.0", source=b"other"), "t")
    assert store.find("kws") == last
    assert store.find("kws", "1.9.0").version == "1.9.0"
    assert store.find("", content=older.digest[:20]) == older
    assert [e.version for e in store.entries("kws")] == ["1.9.0-rc.1", "1.9.0", "1.10.0", "1.10.0"]
    with pytest.raises(InputError, match=r"holds no kws@2\.0\.0") as caught:
        store.find("kws", "2.0.0")
    assert "kws@1.10.0" in caught.value.expected


def test_two_profiles_of_one_version_must_be_told_apart(home, make_bundle):
    store.add(make_bundle(), "t")
    pi5 = store.add(make_bundle(profile="rpi5"), "t")
    with pytest.raises(InputError, match="several profiles") as caught:
        store.find("kws")
    assert "kws@1.0.0/rpi5" in caught.value.expected
    assert store.find("kws", profile="rpi5") == pi5


def test_gc_keeps_what_is_held_and_frees_the_rest(home, make_bundle):
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        store.add(make_bundle(version, model=version.encode() * 100), "t")
    assert store.gc().bytes == 0
    before, plan = blobs(home), store.gc(keep_versions=1, dry_run=True)
    assert {e.version for e in plan.bundles} == {"1.0.0", "1.1.0"} and blobs(home) == before
    freed = store.gc(keep_versions=1)
    assert (freed.blobs, freed.bytes) == (plan.blobs, plan.bytes) and freed.bytes > 0
    (left,) = store.entries()
    open_bundle(left.path).verify()
    assert blobs(home) == {path.name for path in (left.path / "blobs/sha256").iterdir()}


def test_history_says_what_changed(home, make_bundle):
    store.add(make_bundle(score=0.9), "t")
    store.add(make_bundle("1.1.0", score=0.95, model=b"TFL3" + bytes(9000), source=b"retrained"), "t")
    first, second = store.history("kws")
    assert first.changed == () and (second.score, second.size) == (0.95, 9004)
    assert second.changed == ("another source model", "top1 0.9000 → 0.9500", "5.0 → 9.0 KB")


def test_many_at_once_with_gc_in_between(home, make_bundle):
    """Processes that add and throw away at the same time: nothing is lost, nothing is half."""
    paths = [make_bundle(f"1.{n}.0", model=bytes([n % 3]) * 20_000).path for n in range(9)]
    code = (
        "import sys; from pathlib import Path; from edgepack import store; from edgepack.bundle import open_bundle\n"
        "for path in sys.argv[1:]:\n    store.add(open_bundle(Path(path)), 'process'); store.gc()"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, *paths[n:], *paths[:n]]) for n in (0, 3, 6)]
    stop = threading.Event()
    cleaner = threading.Thread(target=lambda: [store.gc() for _ in iter(stop.is_set, True)])
    cleaner.start()
    assert [one.wait() for one in running] == [0, 0, 0]
    stop.set()
    cleaner.join()
    entries = store.entries()
    assert len(entries) == 9
    for entry in entries:
        open_bundle(entry.path).verify()
