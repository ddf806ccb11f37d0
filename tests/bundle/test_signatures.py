"""Signatures in a bundle: they change neither its digest nor its bytes, and a bit of them that flips is noticed."""

from __future__ import annotations

import json
import random
import subprocess
import tarfile

import pytest

from edgepack.bundle import Statement, attach, attest, envelopes, open_bundle, statements
from edgepack.errors import InputError, TrustError

RECORD = b'{"schema":"edgepack.release-record/1","what":"ever"}'
ONE, TWO = Statement(RECORD, "one\n"), Statement(RECORD, "two\n")


def test_a_signature_changes_nothing_else(bundle):
    before = {blob: bundle.read_blob(blob, 1 << 20) for blob in bundle.manifest.blobs()}
    signed = attach(bundle, ONE)
    signed.verify()
    assert (signed.digest, signed.manifest_bytes) == (bundle.digest, bundle.manifest_bytes)
    assert {blob: signed.read_blob(blob, 1 << 20) for blob in before} == before
    assert statements(signed) == (ONE,) and statements(bundle) == ()


def test_the_same_signature_gives_the_same_bytes_whatever_was_there(bundle):
    first = attach(bundle, ONE).path.read_bytes()
    attach(open_bundle(bundle.path), TWO)
    assert attach(open_bundle(bundle.path), ONE).path.read_bytes() == first


def test_signatures_can_stand_beside_each_other(bundle):
    both = attach(attach(bundle, ONE), TWO, beside=True)
    assert set(statements(both)) == {ONE, TWO}
    assert len(statements(attach(both, TWO, beside=True))) == 2
    assert statements(attach(both, TWO)) == (TWO,)


def test_a_folder_is_signed_like_a_file(bundle, unpacked):
    folder = attach(open_bundle(unpacked()), ONE)
    folder.verify()
    assert folder.digest == bundle.digest and statements(folder) == (ONE,)


def test_a_statement_of_origin_is_put_beside_signatures_and_changes_nothing_else(bundle, unpacked):
    before = attach(bundle, ONE)
    after = attest(before, b'{"a":"dsse"}')
    after.verify()
    assert (after.digest, after.manifest_bytes) == (bundle.digest, bundle.manifest_bytes)
    assert statements(after) == (ONE,) and [data for _, data in envelopes(after)] == [b'{"a":"dsse"}']
    once = after.path.read_bytes()
    assert attest(after, b'{"a":"dsse"}').path.read_bytes() == once, "the same again is no second one"
    both = attach(attest(open_bundle(after.path), b"{}"), TWO)
    assert (len(envelopes(both)), statements(both)) == (2, (TWO,))
    folder = attest(open_bundle(unpacked()), b"{}")
    folder.verify()
    assert envelopes(folder) == envelopes(both)


def test_every_blob_that_flips_a_bit_is_a_matter_of_trust(bundle, tmp_path):
    signed = attach(bundle, ONE)
    original = signed.path.read_bytes()
    with tarfile.open(signed.path) as tar:
        blobs = [member for member in tar.getmembers() if "sha256/" in member.name]
    assert len(blobs) == len(bundle.manifest.blobs()) + 4 + 4, "documents of the bundle, and of its signature"
    chance = random.Random(3)
    for member in blobs:
        for at in {0, member.size - 1, chance.randrange(member.size)}:
            changed = bytearray(original)
            changed[member.offset_data + at] ^= 1 << chance.randrange(8)
            evil = tmp_path / "evil.edgepack"
            evil.write_bytes(changed)
            with pytest.raises(TrustError):
                open_bundle(evil).verify()


def test_a_signature_of_another_bundle_is_named(bundle, parts, tmp_path):
    from msgspec import structs

    from edgepack.bundle import pack

    other = attach(pack(structs.replace(parts.manifest, version="9.9.9"), parts.blobs, tmp_path / "other"), ONE)
    with tarfile.open(other.path) as theirs, tarfile.open(bundle.path) as ours:
        members = {one.name: (one, ours.extractfile(one).read()) for one in ours.getmembers()}
        for one in theirs.getmembers():
            members.setdefault(one.name, (one, theirs.extractfile(one).read()))
        index = json.loads(members["index.json"][1])
        index["annotations"] = {"org.edgepack.signature": other.signatures[0]}
        data = json.dumps(index).encode()
        info = tarfile.TarInfo("index.json")
        info.size = len(data)
        members["index.json"] = (info, data)
        mixed = tmp_path / "mixed.edgepack"
        with tarfile.open(mixed, "w", format=tarfile.USTAR_FORMAT) as tar:
            for info, content in members.values():
                import io

                tar.addfile(info, io.BytesIO(content))
    opened = open_bundle(mixed)
    opened.verify()
    with pytest.raises(InputError, match="signature of something else"):
        statements(opened)


def test_a_bundle_that_cannot_be_written_stays_as_it_is(bundle, monkeypatch):
    from edgepack import files

    before = bundle.path.read_bytes()

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(InputError, match="cannot be written"):
        attach(bundle, ONE)
    assert bundle.path.read_bytes() == before and list(bundle.path.parent.iterdir()) == [bundle.path]


@pytest.mark.skopeo
def test_skopeo_still_reads_it(bundle):
    signed = attach(bundle, ONE)
    done = subprocess.run(["skopeo", "inspect", "--raw", f"oci-archive:{signed.path}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["layers"]
