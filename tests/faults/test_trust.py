"""Clocks that are wrong, bundles and requests that somebody bent: refused with a name, never run, never an error of ours."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import structs

from edgepack import manifest, names, sshsig
from edgepack.bundle import Bundle, open_bundle
from edgepack.device import requests
from edgepack.device.faults import Fault
from edgepack.errors import InputError, TrustError
from edgepack.protocol import TrustRequest
from edgepack.record import ReleaseRecord, at

pytestmark = [pytest.mark.faults]

Amount = Callable[[str], int]
YEAR = 365 * 86400
EVIL = (
    "", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a\\b", "a\0b", "a\nb", "-rf", "--help", "~", "~root/x",
    "$HOME", "$(reboot)", "`reboot`", ";reboot", "a|b", "a&b", "a b", "CON", "con.onnx/..", "x" * 65, "x" * 5000, "é", "\u202e.onnx",
    "．．", "a\u0000", "%2e%2e%2f", "..%2f", "....//", "a/../b", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63,
    "sha256:" + "a" * 64 + "\n", "sha256:" + "a" * 64 + "/..", "md5:" + "a" * 32, "file:///etc/passwd", "\r", "\x1b[2J", "'", '"',
)  # fmt: skip


def test_evil_paths_are_refused_wherever_a_name_becomes_one(updating: Any, tally: Any) -> None:
    good = updating.steps
    checks: list[Callable[[str], object]] = [
        names.check_name,
        manifest.check_variant_id,
        *(lambda text, rule=rule: requests.check(text, rule) for rule in ("name", "digest", "key")),
    ]
    allowed = {("x" * 65, 1)}  # a file may be called that
    for text in EVIL:
        for number, check in enumerate(checks):
            with tally.fault("evil paths"):
                if (text, number) in allowed:
                    continue
                with pytest.raises((InputError, Fault)):
                    print(number, repr(text), check(text))
        if not text:
            continue
        for request in (
            structs.replace(good.activate, name=text),
            structs.replace(good.activate, release=text),
            structs.replace(good.install, manifest=text),
        ):
            with tally.fault("evil paths"), pytest.raises(Fault):
                kind = requests.ActivateRequest if "health" in request.__struct_fields__ else requests.InstallRequest
                requests.decode(kind, msgspec.to_builtins(request))
    for text in EVIL[1:8]:  # and through the agent itself
        with tally.fault("evil paths"):
            done = updating.rig.run("activate", structs.replace(good.activate, name=text))
            assert done.code == 1 and done.reply["error"]["kind"] == "input", done
            updating.rig.assert_whole(updating.old)


def test_bent_manifests(make_release: Callable[..., Bundle], chance: random.Random, amount: Amount, tally: Any) -> None:
    """The parser takes it or says InputError or TrustError: nothing else, whatever the bytes are."""
    whole = make_release("1.0.0").manifest_bytes
    row = "fuzzed manifests"
    taken = 0
    for number in range(amount(row)):
        if number % 1000 == 999:
            tally.add(row, faults=1000)
        data = bent(whole, chance)
        try:
            read = manifest.decode(data, "fuzz")
        except (InputError, TrustError):
            continue
        taken += 1
        names.check_name(read.name)
        for one in read.variants:
            manifest.check_variant_id(one.id)
    tally.add(row, faults=amount(row) % 1000, still_valid=taken)
    assert taken < amount(row) / 2, "hardly anything was bent"


def test_bent_bundles(
    make_release: Callable[..., Bundle], chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    whole = make_release("1.0.0", size=1 << 12).path.read_bytes()
    path = tmp_path / "bent.edgepack"
    row = "fuzzed bundles"
    taken = 0
    for _ in range(amount(row)):
        path.write_bytes(bent(whole, chance))
        try:
            bundle = open_bundle(path)
            bundle.verify()
        except (InputError, TrustError):
            continue
        taken += 1  # what was bent is padding of the archive
        assert bundle.digest == open_bundle(make_release("1.0.0", size=1 << 12).path).digest
    tally.add(row, faults=amount(row), still_valid=taken)


def test_bent_requests(updating: Any, chance: random.Random, amount: Amount, tally: Any) -> None:
    """What the agent is asked: it decodes it or refuses it with a Fault."""
    row = "fuzzed requests"
    steps = updating.steps
    cases = [
        (requests.ReceiveRequest, steps.send),
        (requests.RuntimeRequest, steps.provide),
        (requests.InstallRequest, steps.install),
        (requests.ActivateRequest, steps.activate),
    ]
    taken = 0
    for number in range(amount(row)):
        kind, request = cases[number % len(cases)]
        data = bent(msgspec.json.encode(request), chance)
        try:
            requests.decode(kind, json.loads(data))
            taken += 1
        except (Fault, ValueError, RecursionError):  # the last two are the agent's first line, see below
            continue
    for data in (b"[" * 100_000, b"\xff\xfe", b'{"name": ', b"9" * 5000, b"null", b"[]"):
        with tally.fault(row):
            done = updating.rig.raw("activate", data + b"\n")
            assert done.code == 1 and done.reply["error"]["kind"] == "bug" and not done.stderr, done
            updating.rig.assert_whole(updating.old)
    tally.add(row, faults=amount(row), still_valid=taken)


def bent(data: bytes, chance: random.Random) -> bytes:
    """One to four changes: bits, bytes, pieces cut out, doubled, moved, numbers and strings that are extreme."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 4))):
        at = chance.randrange(len(out)) if out else 0
        size = chance.choice((1, 2, 8, 64, 512))
        match chance.randrange(7):
            case 0 if out:
                out[at] ^= 1 << chance.randrange(8)
            case 1 if out:
                out[at : at + size] = chance.randbytes(min(size, 8))
            case 2:
                del out[at : at + size]
            case 3:
                out[at:at] = out[at : at + size]
            case 4:
                out[at : at + 1] = chance.choice(EXTREMES)
            case 5:
                del out[at:]
            case _:
                other = chance.randrange(len(out) + 1)
                out[at:at] = out[other : other + size]
    return bytes(out)


EXTREMES = [
    *(text.encode() for text in ("null", "true", "{}", "[]", '""', "-1", "0", "1e999", "NaN", "9" * 40, "-0.0", "1.5", "\\ud800")),
    b"[" * 2000,
    b'{"a":' * 600,
    b"\xff\xfe",
    b"\x00",
    string.printable.encode(),
    b'"../../etc/passwd"',
    b'"sha256:' + b"0" * 64 + b'"',
]  # fmt: skip


class Key:
    """A key pair of the test's own."""

    def __init__(self) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.public = sshsig.PublicKey(self._private.public_key().public_bytes_raw(), "test")

    def signed(self, steps: Any, **changes: Any) -> Any:
        """The steps with a signed release record."""
        one = steps.install
        values = {"bundle": one.release, "manifest": one.manifest, "name": one.name, "version": one.version}
        record = ReleaseRecord(**{**values, **changes})
        data = record.encode()
        value = self._private.sign(sshsig.signed_bytes(data))
        armored = sshsig.encode(sshsig.SshSignature(self.public, sshsig.NAMESPACE, "sha512", value))
        return replace(steps, install=structs.replace(one, record=data.decode(), signature=armored))


def test_wrong_clocks(
    updating: Any, profile: str, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """1970, and ten years on, on a board that must see signatures: nothing expired gets in, nothing good is locked out at 1970."""
    row = "wrong clocks"
    now = int(time.time())
    key = Key()
    for number in range(amount(row)):
        wrong = (0.0, now + 10.0 * YEAR, chance.uniform(0, 2e9), chance.uniform(2e9, 4e9))[number % 4]
        one = updating.copy(tmp_path / f"clock-{number}")
        one.rig.ok("trust", TrustRequest(device="t", keys=(key.public.line,)))
        issued, expires = now - 86400, now + 30 * 86400
        steps = key.signed(one.steps, profile=profile, issued=at(issued), expires=at(expires))
        hook = {"clock": wrong}
        with tally.fault(row):
            done = [one.rig.run(verb, request, data, hook=hook) for verb, request, data in steps.verbs()]
            assert all(run.code in (0, 1) and "Traceback" not in run.stderr for run in done), done
            late = wrong > expires
            assert (done[-1].code == 1) is late, (wrong, done)
            one.rig.assert_whole(one.old if late else one.new)
            if late:
                error = done[2].reply["error"]
                assert error["kind"] == "trust" and "expired" in error["what"], error
            assert one.rig.run("status", hook=hook).code == 0
        if not late:  # the clock jumps to what is right: what is there stays, and can be cleaned up
            one.rig.push(steps)
            one.rig.assert_whole(one.new)


@pytest.fixture
def profile(updating: Any) -> str:
    return str(updating.profile)
