from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgepack import digest
from edgepack.bundle import Bundle, open_bundle, pack
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, InputError, TrustError


def content(bundle: Bundle) -> dict[str, bytes]:
    """All that a bundle means to whoever reads it."""
    blobs = {blob: bundle.read_blob(blob, 1 << 20) for blob in bundle.manifest.blobs()}
    return {"digest": bundle.digest.encode(), "manifest": bundle.manifest_bytes, **blobs}


def test_a_folder_is_read_like_the_file(bundle, unpacked):
    folder = open_bundle(unpacked())
    folder.verify()
    assert folder.digest == bundle.digest
    assert folder.locks == bundle.locks
    assert content(folder) == content(bundle)


def test_a_bundle_that_another_tar_packed_again_is_the_same(bundle, unpacked, tmp_path):
    folder, again = unpacked(), tmp_path / "again.edgepack"
    with tarfile.open(again, "w", format=tarfile.GNU_FORMAT) as tar:
        tar.add(folder, ".")
    opened = open_bundle(again)
    opened.verify()
    assert content(opened) == content(bundle)


def test_a_stream_can_be_read_in_pieces_and_resumed(bundle, parts):
    blob, data = next(iter(parts.blobs.items()))
    with bundle.open_blob(blob) as stream:
        pieces = []
        while piece := stream.read(37):
            pieces.append(piece)
        assert b"".join(pieces) == data
        stream.seek(1000)
        assert stream.read() == data[1000:]
        assert stream.seek(-5, os.SEEK_END) == len(data) - 5
        assert stream.read(100) == data[-5:]


def test_an_unknown_blob_and_one_above_the_limit_are_named(bundle, parts):
    blob, data = next(iter(parts.blobs.items()))
    with pytest.raises(InputError, match="holds no blob sha256:0000"):
        bundle.open_blob(Digest("sha256:" + "0" * 64))
    with pytest.raises(InputError, match=f"{len(data)} bytes is too large"):
        bundle.read_blob(blob, len(data) - 1)


def test_a_changed_blob_is_never_handed_out_whole(bundle, parts):
    blob, data = next(iter(parts.blobs.items()))
    changed = bytearray(bundle.path.read_bytes())
    changed[changed.find(data) + len(data) // 2] ^= 1
    bundle.path.write_bytes(changed)
    opened = open_bundle(bundle.path)  # opening reads no model
    with pytest.raises(TrustError, match=blob):
        opened.verify()
    with pytest.raises(TrustError, match=blob):
        opened.read_blob(blob, 1 << 20)
    with opened.open_blob(blob) as stream, pytest.raises(TrustError, match=blob):
        stream.read()


def test_one_flipped_bit_is_noticed_or_means_nothing(bundle, tmp_path):
    """Over all headers and documents, and at random places of the blobs."""
    wanted, original = content(bundle), bundle.path.read_bytes()
    chance = random.Random(7)
    places = [*range(0, 2560, 3), *(chance.randrange(len(original)) for _ in range(500))]
    victim = tmp_path / "victim.edgepack"
    for place in places:
        changed = bytearray(original)
        changed[place] ^= 1 << chance.randrange(8)
        victim.write_bytes(changed)
        try:
            opened = open_bundle(victim)
            opened.verify()
        except (InputError, TrustError) as error:
            assert str(victim) in error.what
            continue
        assert content(opened) == wanted, f"bit of byte {place}"


def test_a_truncated_bundle_is_noticed_or_lacks_nothing(bundle, tmp_path):
    wanted, original = content(bundle), bundle.path.read_bytes()
    victim = tmp_path / "victim.edgepack"
    for length in [*range(0, len(original), 251), *range(len(original) - 11000, len(original), 127)]:
        victim.write_bytes(original[:length])
        try:
            opened = open_bundle(victim)
        except (InputError, TrustError) as error:
            assert str(victim) in error.what
            continue
        assert content(opened) == wanted, f"{length} bytes"


def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(data), link
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def sized(size: int) -> bytes:
    info = tarfile.TarInfo("blobs/sha256/" + "a" * 64)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


HOSTILE: dict[str, bytes] = {
    "parent folder": member("../evil"),
    "parent folder inside": member("blobs/../../evil"),
    "absolute name": member("/etc/evil"),
    "empty name part": member("blobs//evil"),
    "backslash": member("blobs\\evil"),
    "control character": member("blobs/e\x1bvil"),
    "symbolic link": member("blobs/sha256/link", b"", tarfile.SYMTYPE, "/etc/passwd"),
    "hard link": member("blobs/sha256/link", b"", tarfile.LNKTYPE, "index.json"),
    "device": member("blobs/sha256/null", b"", tarfile.CHRTYPE),
    "pipe": member("blobs/sha256/pipe", b"", tarfile.FIFOTYPE),
    "sparse": member("blobs/sha256/sparse", b"", tarfile.GNUTYPE_SPARSE),
    "pax header": member("x", b"30 path=/etc/passwd\n", tarfile.XHDTYPE),
    "long name": member("././@LongLink", b"a" * 600, tarfile.GNUTYPE_LONGNAME),
    "folder with content": member("blobs", b"x", tarfile.DIRTYPE),
    "duplicate": member("index.json", b"{}"),
    "duplicate by another spelling": member("./index.json", b"{}"),
    "negative size": sized(-1),
    "size beyond the file": sized(1 << 20),
    "size beyond any bundle": sized(1 << 62),
    "too many members": b"".join(member(f"m{i}", b"") for i in range(5000)),
    "not utf-8": member("name").replace(b"name", b"\xff\xfe\xfd\xfc", 1),
    "garbage": b"garbage!" * 64,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused(bundle, tmp_path, kind):
    evil = tmp_path / "evil.edgepack"
    head = bundle.path.read_bytes().rstrip(b"\0")
    head += bytes(-len(head) % 512)
    evil.write_bytes(head + HOSTILE[kind] + bytes(1024))
    with pytest.raises(InputError, match=f"{evil}: not a bundle") as caught:
        open_bundle(evil)
    assert caught.value.expected
    assert not (tmp_path.parent / "evil").exists()


def test_what_was_not_made_by_edgepack_is_refused_by_name(bundle, tmp_path):
    empty, text, packed = tmp_path / "empty", tmp_path / "text", tmp_path / "packed.tgz"
    empty.write_bytes(b"")
    text.write_bytes(b"no bundle at all\n" * 100)
    packed.write_bytes(gzip.compress(bundle.path.read_bytes()))
    os.mkfifo(tmp_path / "pipe")
    for path in (empty, text, packed, tmp_path / "pipe", tmp_path, tmp_path / "missing", Path("/dev/zero")):
        with pytest.raises(InputError, match=str(path)) as caught:
            open_bundle(path)
        assert "bundle" in caught.value.expected


def tampered(folder: Path, file: str, change: Callable[[dict], None]) -> None:
    """Change a JSON document of an unpacked bundle and every digest above it."""
    index = json.loads((folder / "index.json").read_text())
    blob = lambda name: folder / "blobs/sha256" / digest.hex_of(name)  # noqa: E731
    image = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    own = image["layers"][0]
    document = {"index": index, "image": image}.get(file) or json.loads(blob(own["digest"]).read_text())
    change(document)
    if file == "manifest":
        data = json.dumps(document).encode()
        own.update(digest=digest.of_bytes(data), size=len(data))
        blob(own["digest"]).write_bytes(data)
    if file != "index":
        data = json.dumps(image).encode()
        index["manifests"][0].update(digest=digest.of_bytes(data), size=len(data))
        blob(digest.of_bytes(data)).write_bytes(data)
    (folder / "index.json").write_text(json.dumps(index))


INCONSISTENT: dict[str, tuple[str, Callable[[dict], object], str]] = {
    "two images": ("index", lambda d: d["manifests"].append(d["manifests"][0]), "names 2 manifests"),
    "no image": ("index", lambda d: d["manifests"].clear(), "names 0 manifests"),
    "an index of indices": (
        "index",
        lambda d: d["manifests"][0].update(mediaType="application/vnd.oci.image.index.v1+json"),
        "names 1 manifests",
    ),
    "an evil digest": ("index", lambda d: d["manifests"][0].update(digest="sha256:../../../../etc/passwd"), "missing"),
    "another artifact": ("image", lambda d: d.update(artifactType="application/vnd.other"), "of something else"),
    "no runtime manifest": ("image", lambda d: d["layers"].pop(0), "no runtime manifest"),
    "two runtime manifests": ("image", lambda d: d["layers"].append(d["layers"][0]), "no runtime manifest"),
    "a missing layer": ("image", lambda d: d["layers"][1].update(digest="sha256:" + "1" * 64), "is missing"),
    "a variant that is no layer": ("image", lambda d: d["layers"].pop(1), "none of its layers"),
    "another size in the manifest": ("manifest", lambda d: d["variants"][0].update(size=5), "none of its layers"),
    "a newer schema": ("manifest", lambda d: d.update(schema="edgepack.manifest/2"), "edgepack.manifest/2"),
    "an evil name": ("manifest", lambda d: d.update(name="../../root"), "cannot be used"),
    "an evil version": ("manifest", lambda d: d.update(version="1.0.0/.."), "not a semantic version"),
    "an evil profile": ("manifest", lambda d: d["profile"].update(name="a/b"), "cannot be used"),
    "an evil variant": ("manifest", lambda d: d["variants"][1].update(id="../x.onnx"), "cannot be a file name"),
    "an evil blob": ("manifest", lambda d: d["variants"][1].update(golden="sha256:../../x"), "cannot be a blob"),
    "no default": ("manifest", lambda d: d.update(default="other"), "default variant"),
    "a missing field": ("manifest", lambda d: d.pop("signature"), "signature"),
}


@pytest.mark.parametrize("case", INCONSISTENT)
def test_a_bundle_that_contradicts_itself_is_refused(unpacked, case):
    folder = unpacked()
    file, change, message = INCONSISTENT[case]
    tampered(folder, file, change)
    with pytest.raises(InputError, match=message) as caught:
        open_bundle(folder)
    assert str(folder) in caught.value.what


def test_a_newer_bundle_says_to_update(unpacked):
    folder = unpacked()
    tampered(folder, "manifest", lambda d: d.update(schema="edgepack.manifest/9"))
    with pytest.raises(InputError) as caught:
        open_bundle(folder)
    assert "update edgepack" in caught.value.advice


def test_documents_that_differ_from_their_digest_are_not_trusted(bundle, unpacked):
    for blob in (bundle.digest, digest.of_bytes(bundle.manifest_bytes)):
        folder = unpacked()
        file = folder / "blobs/sha256" / digest.hex_of(blob)
        original = file.read_bytes()
        file.write_bytes(original.replace(b"1", b"2", 1))
        with pytest.raises(TrustError, match=blob):
            open_bundle(folder)
        file.write_bytes(original)


def test_blobs_of_a_folder_are_plain_files_of_the_right_size(bundle, unpacked, tmp_path):
    folder = unpacked()
    file = folder / "blobs/sha256" / digest.hex_of(bundle.manifest.variants[0].digest)
    original = file.read_bytes()
    file.write_bytes(original + b"x")
    with pytest.raises(TrustError, match=f"expected: {len(original)} bytes"):
        open_bundle(folder)
    file.unlink()
    with pytest.raises(InputError, match="is missing"):
        open_bundle(folder)
    (tmp_path / "elsewhere").write_bytes(original)
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="not a plain file"):
        open_bundle(folder)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(InputError, match="not a plain file"):
        open_bundle(folder)


@pytest.mark.parametrize("name", ["index.json", "oci-layout"])
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"a":1}', b"[" * 100_000, b" " * (5 << 20)])
def test_broken_documents_are_refused(unpacked, name, data):
    folder = unpacked()
    (folder / name).write_bytes(data)
    with pytest.raises(InputError, match=str(folder)):
        open_bundle(folder)


def test_another_layout_version_is_refused(unpacked):
    folder = unpacked()
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"2.0.0"}')
    with pytest.raises(InputError, match=r"2\.0\.0"):
        open_bundle(folder)


def test_an_evil_file_name_in_a_lock_is_refused(parts, tmp_path):
    wheel = msgspec.structs.replace(parts.lock.wheels[0], filename="../../evil.whl")
    data = digest.canonical_json(msgspec.structs.replace(parts.lock, wheels=(wheel,)))
    record = msgspec.structs.replace(parts.manifest.locks[0], digest=digest.of_bytes(data), size=len(data))
    evil = pack(
        msgspec.structs.replace(parts.manifest, locks=(record,)), {**parts.blobs, record.digest: data}, tmp_path
    )
    with pytest.raises(InputError, match=r"evil\.whl"):
        _ = evil.locks


def test_a_signature_can_be_added_and_changes_no_digest(bundle, unpacked):
    """Where docs/adr/0005 puts it: a blob that refers to the manifest, named by an annotation of the index."""
    folder = unpacked()
    signature = json.dumps({"subject": {"digest": bundle.digest}}).encode()
    (folder / "blobs/sha256" / digest.hex_of(digest.of_bytes(signature))).write_bytes(signature)
    tampered(folder, "index", lambda d: d.update(annotations={"org.edgepack.signature": digest.of_bytes(signature)}))
    signed = open_bundle(folder)
    signed.verify()
    assert signed.digest == bundle.digest
    assert signed.read_blob(digest.of_bytes(signature), 1000) == signature


def test_random_bytes_after_a_valid_beginning_never_crash(bundle, tmp_path):
    original, chance = bundle.path.read_bytes(), random.Random(3)
    victim = tmp_path / "victim.edgepack"
    for _ in range(300):
        changed = io.BytesIO(original)
        for _ in range(chance.randrange(1, 6)):
            changed.seek(chance.randrange(len(original)))
            changed.write(chance.randbytes(chance.randrange(1, 64)))
        victim.write_bytes(changed.getvalue())
        try:
            open_bundle(victim).verify()
        except EdgepackError as error:
            assert error.exit_code in (3, 6)
