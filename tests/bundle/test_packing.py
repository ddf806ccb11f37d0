from __future__ import annotations

import json
import subprocess
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from edgepack import digest
from edgepack.bundle import Bundle, open_bundle, pack
from edgepack.errors import BugError, InputError


def test_the_same_inputs_give_the_same_bytes(parts, tmp_path):
    as_files = {}
    for blob, data in reversed(parts.blobs.items()):
        as_files[blob] = tmp_path / digest.hex_of(blob)
        as_files[blob].write_bytes(data)
    first = pack(parts.manifest, parts.blobs, tmp_path / "a")
    second = pack(parts.manifest, as_files, tmp_path / "b")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.digest == second.digest


def test_the_format_is_the_one_that_was_published(bundle):
    """Bundles built by this version and by any other of schema 1 name the same content by the same digest."""
    assert bundle.digest == "sha256:c4e4254e099c1cbe37e46c620bc9725df7a9e9ec8eed9a968a909516cb334273"


def test_a_bundle_is_one_file_with_its_three_names(bundle):
    assert bundle.path.name == "digits-1.2.0-rpi4.edgepack"
    assert [path.name for path in bundle.path.parent.iterdir()] == [bundle.path.name]


def test_everything_that_was_packed_is_there(bundle, parts):
    assert bundle.manifest == parts.manifest
    assert bundle.locks == (parts.lock,)
    for blob, data in parts.blobs.items():
        assert bundle.size_of(blob) == len(data)
        assert bundle.read_blob(blob, 1 << 20) == data
        with bundle.open_blob(blob) as stream:
            assert stream.read() == data
    bundle.verify()


def test_the_tar_is_plain_ustar_without_a_trace_of_this_machine(bundle):
    with tarfile.open(bundle.path) as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:2]] == ["oci-layout", "index.json"]
    names = [member.name for member in members[2:]]
    assert names == sorted(names)
    for member in members:
        assert member.isreg()
        assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
        assert member.mode == 0o644
    assert bundle.path.read_bytes()[257:263] == b"ustar\0"


def test_it_is_a_modelpack_artifact(bundle, unpacked):
    """Media types of modelpack/model-spec specs-go/v1/mediatype.go; config keys of its schema/config-schema.json."""
    folder = unpacked()
    blob = lambda name: json.loads((folder / "blobs/sha256" / name.partition(":")[2]).read_text())  # noqa: E731
    index = json.loads((folder / "index.json").read_text())
    (top,) = index["manifests"]
    image = blob(top["digest"])
    assert image["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert image["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
    assert image["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    files = {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in image["layers"]}
    assert files == {
        "manifest.json": "application/vnd.edgepack.manifest.v1+json",
        "digits.rpi4.w8a8-s50.tflite": "application/vnd.cncf.model.weight.v1.raw",
        "digits.rpi4.w8a8-s50.onnx": "application/vnd.cncf.model.weight.v1.raw",
        "digits.rpi4.w8a8-s50.tflite.golden.npz": "application/vnd.cncf.model.dataset.v1.raw",
        "labels.txt": "application/vnd.cncf.model.weight.config.v1.raw",
        "locks/litert-cp311-aarch64.json": "application/vnd.edgepack.lock.v1+json",
    }
    config = blob(image["config"]["digest"])
    assert config["descriptor"] == {"name": "digits", "version": "1.2.0", "createdAt": "2026-01-02T03:04:05Z"}
    assert config["config"] == {"format": "tflite", "precision": "w8a8"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in image["layers"]]}
    labels = next(layer for layer in image["layers"] if layer["annotations"]["org.cncf.model.filepath"] == "labels.txt")
    assert bundle.read_blob(labels["digest"], 100).decode().splitlines() == ["zero", "eins", "zwei"]


@pytest.mark.parametrize("how", ["other bytes", "missing"])
def test_a_blob_that_is_not_what_it_is_said_to_be_is_our_bug_and_leaves_nothing(parts, tmp_path, how):
    wanted = parts.manifest.variants[0].digest
    blobs = {key: data for key, data in parts.blobs.items() if key != wanted}
    if how == "other bytes":
        blobs[wanted] = b"x" * parts.manifest.variants[0].size
    with pytest.raises(BugError, match=wanted):
        pack(parts.manifest, blobs, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_an_older_bundle_stays_where_packing_fails(bundle, parts):
    before = bundle.path.read_bytes()
    with pytest.raises(BugError):
        pack(parts.manifest, {}, bundle.path.parent)
    assert bundle.path.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(parts, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=str(tmp_path / "file")):
        pack(parts.manifest, parts.blobs, tmp_path / "file")


def test_a_large_blob_is_never_in_memory(parts, tmp_path):
    import msgspec

    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(48 << 20)
    content = digest.of_file(large)
    first = msgspec.structs.replace(parts.manifest.variants[0], digest=content, size=48 << 20)
    manifest = msgspec.structs.replace(parts.manifest, variants=(first, parts.manifest.variants[1]))
    tracemalloc.start()
    bundle = pack(manifest, {**parts.blobs, content: large}, tmp_path / "out")
    bundle.verify()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20


class TestSkopeo:
    def raw(self, where: str) -> bytes:
        return subprocess.run(["skopeo", "inspect", "--raw", where], check=True, capture_output=True).stdout

    @pytest.mark.skopeo
    def test_reads_a_bundle_as_a_file_and_as_a_folder(self, bundle, unpacked):
        assert digest.of_bytes(self.raw(f"oci-archive:{bundle.path}")) == bundle.digest
        assert digest.of_bytes(self.raw(f"oci:{unpacked()}")) == bundle.digest
        assert digest.of_bytes(self.raw(f"oci-archive:{bundle.path}:1.2.0")) == bundle.digest

    @pytest.mark.skopeo
    def test_a_bundle_survives_a_copy_by_it(self, bundle: Bundle, tmp_path: Path):
        copy = tmp_path / "copy.edgepack"
        command = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{bundle.path}", f"oci-archive:{copy}"]
        subprocess.run(command, check=True, capture_output=True)
        again = open_bundle(copy)
        again.verify()
        assert (again.digest, again.manifest_bytes) == (bundle.digest, bundle.manifest_bytes)
