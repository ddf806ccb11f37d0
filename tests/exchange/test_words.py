"""What words mean where a bundle or a source is wanted, and the commands that take them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack import exchange, references
from edgepack.cli.progress import Plain
from edgepack.errors import InputError, UsageError
from edgepack.references import InRegistry, InStore

WORDS = {
    "kws-1.2.0-rpi4.edgepack": Path("kws-1.2.0-rpi4.edgepack"),
    "./folder": Path("folder"),
    "/a/b:c": Path("/a/b:c"),
    "folder/inside": Path("folder/inside"),
    "kws": Path("kws"),
    "kws@": InStore("kws"),
    "kws@1.2.0": InStore("kws", "1.2.0"),
    "kws@1.2.0-rc.1/rpi4": InStore("kws", "1.2.0-rc.1", "rpi4"),
    "sha256:0123456789ab": InStore("", digest="sha256:0123456789ab"),
    "localhost/kws:1": InRegistry("localhost", "kws", "1"),
    "localhost:5000/team/kws:1.2.0": InRegistry("localhost:5000", "team/kws", "1.2.0"),
    "ghcr.io/team/kws:v1@sha256:" + "a" * 64: InRegistry("ghcr.io", "team/kws", "v1", "sha256:" + "a" * 64),
    "[::1]:5000/kws:1": InRegistry("[::1]:5000", "kws", "1"),
    "oci://registry/kws:1": InRegistry("registry", "kws", "1"),
}


@pytest.mark.parametrize("word", WORDS)
def test_a_word_means(word):
    assert references.parse(word) == WORDS[word]


@pytest.mark.parametrize(
    "word",
    ["ghcr.io/kws", "ghcr.io/KWS:1", "ghcr.io/a/../b:1", "ghcr.io/a:b c", "ghcr.io/a@sha256:12", "ghcr.io/:1",
     "oci://kws", "oci:///a:1", "ghcr.io/a:1\r\nX: y", "kws@latest", "oci://ghcr.io/" + "a" * 300 + ":1"],
)  # fmt: skip
def test_half_a_reference_is_wrong_usage(word):
    with pytest.raises(UsageError):
        references.parse(word)


@pytest.mark.parametrize(
    ("host", "local"),
    [("localhost", True), ("localhost:5", True), ("127.0.0.1:5000", True), ("127.8.8.8", True), ("[::1]:1", True),
     ("127.0.0.1.evil.org", False), ("localhost.evil.org:1", False), ("10.0.0.1:5000", False), ("1127.0.0.1", False)],
)  # fmt: skip
def test_only_this_machine_is_spoken_to_in_the_clear(host, local):
    assert InRegistry(host, "a", "1").loopback is local


def run(*arguments: object) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "edgepack", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_the_store_by_its_commands(home, make_bundle, tmp_path):
    for version in ("1.0.0", "1.1.0"):
        assert run("add", make_bundle(version, model=version.encode() * 99).path)[0] == 0
    code, out, _ = run("list", "--json")
    assert code == 0 and [one["version"] for one in json.loads(out)["bundles"]] == ["1.0.0", "1.1.0"]
    shown = json.loads(run("show", "kws", "--json")[1])
    assert (shown["version"], shown["manifest"]["name"]) == ("1.1.0", "kws")
    assert "kws 1.0.0 for rpi4" in run("show", "kws@1.0.0")[1]
    releases = json.loads(run("history", "kws", "--json")[1])["releases"]
    assert [one["entry"]["version"] for one in releases] == ["1.0.0", "1.1.0"] and not releases[0]["changed"]
    assert json.loads(run("inspect", "kws@1.0.0", "--json")[1])["digest"] == releases[0]["entry"]["digest"]
    assert json.loads(run("gc", "--keep", "1", "--dry-run", "--json")[1])["bundles"]
    assert json.loads(run("gc", "--keep", "1", "--json")[1])["bytes"] > 0
    code, _, err = run("inspect", "kws@1.0.0")
    assert code == 3 and "kws@1.1.0" in err and "Traceback" not in err
    assert run("history", "nothing")[0] == 3


@pytest.mark.registry
def test_publish_and_fetch_by_their_commands(server, home, make_bundle, tmp_path):
    source, word = make_bundle(), f"{server.host}/cli/kws:1"
    code, out, err = run("publish", source.path, word, "--json")
    assert code == 0 and json.loads(out)["digest"] == source.digest, err
    code, out, _ = run("fetch", word, "-o", tmp_path / "got", "--json")
    assert code == 0 and Path(json.loads(out)["path"]).read_bytes() == source.path.read_bytes()
    assert json.loads(run("inspect", word, "--json")[1])["digest"] == source.digest
    for words, expected in ((("fetch", f"{server.host}/cli/kws:2"), 3), (("fetch", "127.0.0.1:1/a:1"), 5),
                            (("publish", source.path, "nowhere"), 2)):  # fmt: skip
        code, _, err = run(*words)
        assert code == expected and "Traceback" not in err, err


@pytest.mark.registry
def test_a_model_in_a_registry_is_a_source(server, home, make_bundle):
    exchange.publish(make_bundle(), references.registry(f"{server.host}/models/kws:1"), progress=Plain())
    named = exchange.source_of(f"{server.host}/models/kws:1", Plain())
    assert Path(named).name == "kws.rpi4.fp32.tflite" and Path(named).read_bytes().startswith(b"TFL3")
    assert exchange.source_of("model.py:build", Plain()) == "model.py:build"
    with pytest.raises(InputError, match=r"holds no other\.onnx"):
        exchange.source_of(f"{server.host}/models/kws:1#other.onnx", Plain())
