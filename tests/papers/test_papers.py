"""The papers: true to the manifest, the same bytes for the same inputs, readable by the tools they are for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgepack import digest, manifest, papers
from edgepack.bundle import open_bundle
from edgepack.errors import InputError, TrustError
from edgepack.papers import PublicKey

BUNDLE = next((Path(__file__).parent.parent / "bundles").glob("*.edgepack"))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PublicKey("SHA256:mine", KEY.public_key().public_bytes_raw())


@pytest.fixture
def told() -> manifest.Manifest:
    return msgspec.structs.replace(open_bundle(BUNDLE).manifest, documents=())


def test_the_statement_names_what_came_in_and_what_came_out(told):
    found = json.loads(papers.statement(told, digest.of_bytes(b"bundle")))
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    subjects = {one["name"]: one["digest"]["sha256"] for one in found["subject"]}
    assert {one.id: digest.hex_of(one.digest) for one in told.variants}.items() <= subjects.items()
    assert digest.hex_of(digest.of_bytes(b"bundle")) in subjects.values()
    definition = found["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["plan"] == told.provenance.plan
    inputs = {one["name"]: one for one in definition["resolvedDependencies"]}
    assert inputs["source"]["digest"]["sha256"] == digest.hex_of(told.source.digest)
    assert inputs["profile"]["digest"]["sha256"] == digest.hex_of(told.profile.digest)


def test_the_bill_lists_every_model_and_every_wheel(told):
    locks = open_bundle(BUNDLE).locks
    bill = json.loads(papers.bill_of_materials(told, locks))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    hashes = {one["hashes"][0]["content"]: one["type"] for one in bill["components"] if "hashes" in one}
    for record in told.variants:
        assert hashes[digest.hex_of(record.digest)] == "machine-learning-model"
    for wheel in (wheel for lock in locks for wheel in lock.wheels):
        assert hashes[digest.hex_of(wheel.digest)] == "library"


def test_the_bill_is_valid_by_the_standard_s_own_schema(told):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    data = papers.bill_of_materials(told, open_bundle(BUNDLE).locks).decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(data) is None


def test_other_processes_write_the_same_bytes():
    code = (
        "import sys, msgspec; from pathlib import Path; from edgepack import papers; from edgepack.bundle import open_bundle\n"
        "b = open_bundle(Path(sys.argv[1])); m = msgspec.structs.replace(b.manifest, documents=())\n"
        "print([p.record.digest for p in papers.write(m, b.locks, None)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code, BUNDLE],
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("77", "Asia/Tokyo"))
    ]
    assert runs[0] == runs[1] and b"sha256:" in runs[0]


def test_the_card_says_what_nobody_measured(told):
    blind = msgspec.structs.replace(
        told.provenance, evaluation=None, calibration=None, calibration_samples=None, evaluation_samples=None
    )
    text = papers.render_card(msgspec.structs.replace(told, provenance=blind))
    assert "nobody knows how accurate" in text and "calibration: none was given" in text
    seen = msgspec.structs.replace(blind, evaluation=digest.of_bytes(b"e"), evaluation_samples=540)
    text = papers.render_card(msgspec.structs.replace(told, provenance=seen))
    assert "nobody knows" not in text and f"540 samples, {digest.of_bytes(b'e')}" in text
    for record in told.variants:
        assert f"`{record.id}`" in text


def test_what_others_wrote_is_no_markup_in_the_card(told):
    evil = msgspec.structs.replace(told, labels=("<script>", "a\n# b", "[x](http://y)", "`"))
    text = papers.render_card(evil)
    assert "<script>" not in text.replace("\\<script\\>", "") and "\n# b" not in text and "[x](" not in text


class TestEnvelope:
    def test_it_opens_with_the_right_key_only(self, told):
        payload = papers.statement(told)
        data = papers.envelope(payload, PUBLIC, KEY.sign)
        assert data == papers.envelope(payload, PUBLIC, KEY.sign)
        assert papers.open_envelope(data, (PUBLIC,), "f") == payload
        other = PublicKey("SHA256:mine", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
        with pytest.raises(TrustError, match="by no key that is trusted"):
            papers.open_envelope(data, (other,), "f")

    def test_a_changed_statement_does_not_open(self, told):
        data = json.loads(papers.envelope(papers.statement(told), PUBLIC, KEY.sign))
        data["payload"] = data["payload"][:-8] + "AAAAAAA="
        with pytest.raises((TrustError, InputError)):
            papers.open_envelope(json.dumps(data).encode(), (PUBLIC,), "f")

    def test_securesystemslib_agrees(self, told):
        from securesystemslib.dsse import Envelope
        from securesystemslib.signer import SSlibKey

        data = json.loads(papers.envelope(papers.statement(told), PUBLIC, KEY.sign))
        key = SSlibKey(PUBLIC.id, "ed25519", "ed25519", {"public": PUBLIC.value.hex()})
        assert Envelope.from_dict(data).verify([key], 1)

    @pytest.mark.parametrize("data", [b"", b"{}", b"[" * 90_000, b'{"payload":"!","payloadType":"x","signatures":[]}'])
    def test_anything_else_is_refused(self, data):
        with pytest.raises(InputError, match="f: no DSSE envelope"):
            papers.open_envelope(data, (PUBLIC,), "f")
