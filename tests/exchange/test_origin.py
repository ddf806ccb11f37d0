"""A signed statement of a bundle's origin: attached, carried by a registry both ways, held against keys."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack import attesting, bundle, exchange, references, trust
from edgepack.bundle import Bundle, attest, envelopes, open_bundle
from edgepack.cli.progress import Plain
from edgepack.errors import InputError, TrustError


def publish(source: Bundle, word: str) -> exchange.Published:
    return exchange.publish(source, references.registry(word), progress=Plain())


def fetch(word: str) -> exchange.Fetched:
    return exchange.fetch(references.registry(word), progress=Plain())


def skopeo(*arguments: object) -> bytes:
    return subprocess.run(["skopeo", "--insecure-policy", *map(str, arguments)], check=True, capture_output=True).stdout


def run(*words: object) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-m", "edgepack", *map(str, words)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def key(tmp_path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    return tmp_path / "key"


def attested(source: Bundle, key: Path) -> Bundle:
    return attest(source, attesting.envelope(source, trust.load_signer(key, lambda _: "")))


def fingerprint(key: Path) -> str:
    (found,) = trust.read_keys(key.with_suffix(".pub"))
    return found.fingerprint


@pytest.mark.registry
def test_it_is_a_referrer_that_travels_with_the_bundle(server, home, make_bundle, key, tmp_path):
    source = attested(make_bundle(), key)
    word = f"{server.host}/origin/kws:1"
    assert publish(source, word).attestations == 1 and publish(source, word).unchanged
    done = fetch(word)
    assert (done.attestations, done.signatures, done.entry.signed) == (1, 0, False)
    got = open_bundle(done.entry.path)
    assert envelopes(got) == envelopes(source)
    assert bundle.export(got, tmp_path / "out").path.read_bytes() == source.path.read_bytes()
    # another tool finds it: the list of referrers, the artifact, its one layer, and in it the statement
    there = f"docker://{server.host}/origin/kws"
    listed = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"{there}:{source.digest.replace(':', '-')}"))
    (one,) = (one for one in listed["manifests"] if one["artifactType"] == "application/vnd.in-toto.provenance+dsse")
    artifact = json.loads(skopeo("inspect", "--tls-verify=false", "--raw", f"{there}@{one['digest']}"))
    assert artifact["subject"]["digest"] == source.digest
    assert artifact["annotations"] == {"in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"}
    skopeo("copy", "--src-tls-verify=false", f"{there}@{one['digest']}", f"dir:{tmp_path / 'copied'}")
    (layer,) = artifact["layers"]
    envelope = json.loads((tmp_path / "copied" / layer["digest"].removeprefix("sha256:")).read_bytes())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"


@pytest.mark.registry
def test_one_that_comes_later_joins_what_is_there(server, home, make_bundle, key):
    word = f"{server.host}/later/origin:1"
    publish(make_bundle(), word)
    assert fetch(word).attestations == 0
    code, out, err = run("provenance", word, "--sign-key", key, "--attach")
    assert code == 0 and "is attached" in err and json.loads(out)["signatures"], err
    assert fetch(word).attestations == 1
    code, out, err = run("verify", word, "--trust-key", key.with_suffix(".pub"), "--allow-unsigned", "--json")
    origin = {"key": fingerprint(key), "checked": True, "trusted": True, "revoked": False}
    assert code == 0 and json.loads(out)["provenance"] == [origin], err
    assert publish(open_bundle(fetch(word).entry.path), word).unchanged


def test_it_is_held_against_keys(home, make_bundle, key):
    source = make_bundle()
    code, _, err = run("provenance", source.path, "--attach")
    assert code == 2 and "--sign-key" in err
    code, _, err = run("provenance", source.path, "--sign-key", key, "--attach")
    assert code == 0, err
    signed = open_bundle(source.path)
    unknown = attesting.Origin(key=fingerprint(key), checked=False, trusted=False, revoked=False)
    assert attesting.origins(signed, trust.Keyring()) == (unknown,)
    assert "not checked" in run("verify", source.path)[1]
    known = trust.load_keyring([key.with_suffix(".pub")])
    assert attesting.origins(signed, known)[0].trusted
    revoked = trust.Keyring(known.keys, (fingerprint(key),))
    assert attesting.origins(signed, revoked)[0].revoked and not attesting.origins(signed, revoked)[0].trusted
    code, _, err = run("sign", source.path, "--sign-key", key)
    assert code == 0, err
    again = attesting.origins(open_bundle(source.path), trust.Keyring())
    assert again == (attesting.Origin(key=fingerprint(key), checked=True, trusted=None, revoked=False),)


def test_one_of_another_bundle_or_with_another_signature_is_refused(home, make_bundle, key, tmp_path):
    ((_, other),) = envelopes(attested(make_bundle("2.0.0"), key))
    known = trust.load_keyring([key.with_suffix(".pub")])
    source = make_bundle()
    mixed = attest(source, other)
    with pytest.raises(TrustError, match="about something else"):
        attesting.origins(mixed, known)
    code, _, err = run("verify", mixed.path, "--trust-key", key.with_suffix(".pub"), "--allow-unsigned")
    assert code == 6 and "about something else" in err
    broken = json.loads(attesting.envelope(mixed, trust.load_signer(key, lambda _: "")))
    broken["signatures"][0]["sig"] = json.loads(other)["signatures"][0]["sig"]
    bent = attest(make_bundle("3.0.0"), json.dumps(broken).encode())
    with pytest.raises(TrustError, match="does not hold"):
        attesting.origins(bent, known)
    with pytest.raises(InputError, match="no DSSE envelope"):
        attesting.origins(attest(make_bundle("4.0.0"), b"{}"), known)
