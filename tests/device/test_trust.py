"""Whom a board trusts: what enrolment writes, what its administrator keeps, and what the agent then admits."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgepack import sshsig
from edgepack.device import trust
from edgepack.device.admission import Subject
from edgepack.device.faults import Fault
from edgepack.device.requests import TrustRequest
from edgepack.record import ReleaseRecord, at

SUBJECT = Subject("sha256:" + "b" * 64, "sha256:" + "a" * 64, "kws", "1.1.0", "rpi4")
DAY = 86400


class Key:
    """A key pair, made from a name."""

    def __init__(self, name: str) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.public = sshsig.PublicKey(self._private.public_key().public_bytes_raw(), name)

    def sign(self, record: ReleaseRecord) -> tuple[str, str]:
        data = record.encode()
        value = self._private.sign(sshsig.signed_bytes(data))
        return data.decode(), sshsig.encode(sshsig.SshSignature(self.public, sshsig.NAMESPACE, "sha512", value))


OLD, NEW = Key("old"), Key("new")


def a_record(**changes: object) -> ReleaseRecord:
    values = {**SUBJECT._asdict(), "issued": at(int(time.time()) - DAY), **changes}
    return ReleaseRecord(**values)  # type: ignore[arg-type]


def enrol(
    root: Path, *keys: Key, revoke: tuple[str, ...] = (), labels: tuple[str, ...] = ("ring=canary",)
) -> dict[str, object]:
    lines = tuple(key.public.line for key in keys)
    return trust.enrol(str(root), TrustRequest("kitchen", labels, lines, revoke, "me"))


def admit(
    root: Path, record: str = "", signature: str = "", *, highest: str = "", downgrade: bool = False
) -> trust.Admission:
    return trust.admit(str(root), SUBJECT, record, signature, highest, downgrade)


def test_a_board_that_was_never_told_takes_everything_and_says_what_it_is(tmp_path: Path) -> None:
    tmp_path.joinpath("root").mkdir()
    assert admit(tmp_path / "root").assurance == "unsigned"
    found = admit(tmp_path / "root", *OLD.sign(a_record()))
    assert (found.assurance, found.key) == ("digests-only", OLD.public.fingerprint)
    with pytest.raises(Fault, match="does not hold"):
        admit(tmp_path / "root", OLD.sign(a_record())[0], NEW.sign(a_record(profile="rpi4", expires=at(2**31)))[1])
    with pytest.raises(Fault, match="not of kws"):
        admit(tmp_path / "root", *OLD.sign(a_record(bundle="sha256:" + "c" * 64)))


def test_keys_change_by_enrolling_and_a_revoked_one_never_comes_back(tmp_path: Path) -> None:
    root = tmp_path / "root"
    enrol(root, OLD)
    assert admit(root, *OLD.sign(a_record())).assurance == "signed"
    with pytest.raises(Fault, match="does not trust"):
        admit(root, *NEW.sign(a_record()))
    told = enrol(root, NEW)
    assert set(told["keys"]) == {OLD.public.fingerprint, NEW.public.fingerprint}  # type: ignore[call-overload]
    assert admit(root, *OLD.sign(a_record())).assurance == admit(root, *NEW.sign(a_record())).assurance == "signed"
    told = enrol(root, NEW, revoke=(OLD.public.fingerprint,))
    assert told["keys"] == [NEW.public.fingerprint] and told["revoked"] == [OLD.public.fingerprint]
    with pytest.raises(Fault, match="was revoked"):
        admit(root, *OLD.sign(a_record()))
    with pytest.raises(Fault, match="was revoked"):
        enrol(root, OLD)
    enrol(root, revoke=(NEW.public.fingerprint,))
    with pytest.raises(Fault, match="is not signed"):
        admit(root)


def test_enrolling_again_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    enrol(root, OLD, NEW, revoke=("SHA256:" + "x" * 43,))
    before = {path.name: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "lock"}
    enrol(root, OLD, NEW, revoke=("SHA256:" + "x" * 43,))
    assert {
        path.name: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "lock"
    } == before


def test_who_a_board_is_decides_what_is_meant_for_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    enrol(root, OLD)
    assert admit(root, *OLD.sign(a_record(targets=("cellar", "ring=canary")))).assurance == "signed"
    with pytest.raises(Fault, match="not meant for this board, which is kitchen"):
        admit(root, *OLD.sign(a_record(targets=("cellar",))))
    enrol(root, labels=("ring=stable",))
    with pytest.raises(Fault, match="not meant"):
        admit(root, *OLD.sign(a_record(targets=("ring=canary",))))


def test_going_back_needs_a_signed_permission(tmp_path: Path) -> None:
    root = tmp_path / "root"
    enrol(root, OLD)
    with pytest.raises(Fault) as caught:
        admit(root, *OLD.sign(a_record()), highest="1.2.0")
    assert caught.value.kind == "gate" and "1.2.0" in caught.value.what
    with pytest.raises(Fault, match="no trusted key allows"):
        admit(root, *OLD.sign(a_record()), highest="1.2.0", downgrade=True)
    back = OLD.sign(a_record(allows_downgrade_from="1.2.0"))
    assert admit(root, *back, highest="1.2.0", downgrade=True).assurance == "signed"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda now: monkeypatch.setattr(time, "time", lambda: now)


def test_a_clock_at_1970_does_not_bring_an_expired_signature_back(tmp_path: Path, clock: Callable[[int], None]) -> None:
    root, now = tmp_path / "root", 1_800_000_000
    enrol(root, OLD)
    old = OLD.sign(a_record(issued=at(now - 90 * DAY), expires=at(now - DAY)))
    clock(0)
    assert admit(root, *old).assurance == "signed", "nothing tells such a board that time has passed"
    assert admit(root, *OLD.sign(a_record(issued=at(now), expires=at(now + 90 * DAY)))).assurance == "signed"
    with pytest.raises(Fault, match="expired at 2027-01-14"):
        admit(root, *old)
    assert trust.floor(str(root)) == now


def test_a_clock_years_ahead_refuses_only_as_long_as_it_is_wrong(tmp_path: Path, clock: Callable[[int], None]) -> None:
    root, now = tmp_path / "root", 1_800_000_000
    enrol(root, OLD)
    good = OLD.sign(a_record(issued=at(now), expires=at(now + 90 * DAY)))
    clock(now + 3650 * DAY)
    with pytest.raises(Fault, match="expired"):
        admit(root, *good)
    assert admit(root, *OLD.sign(a_record(issued=at(now)))).assurance == "signed"
    clock(now + DAY)
    assert admit(root, *good).assurance == "signed"
    assert trust.floor(str(root)) == now + DAY
    clock(0)
    assert admit(root, *good).assurance == "signed"


def test_a_stranger_cannot_move_the_floor(tmp_path: Path) -> None:
    tmp_path.joinpath("root").mkdir()
    admit(tmp_path / "root", *NEW.sign(a_record(issued="2090-01-01T00:00:00Z")))
    assert trust.floor(str(tmp_path / "root")) == 0
    enrol(tmp_path / "root", OLD)
    with pytest.raises(Fault):
        admit(tmp_path / "root", *NEW.sign(a_record(issued="2090-01-01T00:00:00Z")))
    assert trust.floor(str(tmp_path / "root")) == 0


@pytest.fixture
def administered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    monkeypatch.setattr(trust, "SYSTEM", str(folder))
    return folder


def test_what_the_administrator_keeps_stands_above_what_the_user_says(tmp_path: Path, administered: Path) -> None:
    root = tmp_path / "root"
    (root / "trust").mkdir(parents=True)
    (root / "trust/mine.pub").write_text(NEW.public.line)
    (root / "trust/device.json").write_text('{"name": "kitchen", "labels": {}, "allow_unsigned": true}')
    with pytest.raises(Fault, match="does not trust"):
        admit(root, *NEW.sign(a_record()))
    with pytest.raises(Fault, match="is not signed"):
        admit(root)
    (administered / "release.pub").write_text(f"# keys\n{OLD.public.line}\n")
    assert admit(root, *OLD.sign(a_record())).assurance == "signed"
    with pytest.raises(Fault, match="kept by its administrator") as caught:
        enrol(root, NEW)
    assert NEW.public.fingerprint in caught.value.what
    assert enrol(root, OLD)["system"] is True
    with pytest.raises(Fault, match="does not revoke"):
        enrol(root, OLD, revoke=(OLD.public.fingerprint,))
    assert [path.name for path in administered.iterdir()] == ["release.pub"]


def test_a_policy_lets_unsigned_bundles_in_and_marks_them(tmp_path: Path, administered: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (administered / "release.pub").write_text(OLD.public.line)
    (administered / "device.json").write_text(json.dumps({"allow_unsigned": True}))
    assert admit(root).assurance == "unsigned"
    assert admit(root, *NEW.sign(a_record())).assurance == "digests-only"
    assert admit(root, *OLD.sign(a_record())).assurance == "signed"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("key.pub", "ssh-rsa AAAA x"),
        ("key.pub", "garbage"),
        ("revoked", "everybody"),
        ("device.json", "{"),
        ("device.json", "[]"),
        ("device.json", '{"name": 3}'),
        ("device.json", '{"labels": {"a": 1}}'),
        ("device.json", '{"allow_unsigned": "no"}'),
    ],
)
def test_a_broken_file_does_not_mean_that_nobody_need_be_trusted(
    name: str, text: str, administered: Path, tmp_path: Path
) -> None:
    (administered / name).write_text(text)
    (tmp_path / "root").mkdir()
    with pytest.raises(Fault) as caught:
        admit(tmp_path / "root")
    assert caught.value.kind == "trust" and str(administered) in caught.value.what


def test_asking_changes_nothing(tmp_path: Path) -> None:
    said = trust.state(str(tmp_path / "root"))
    assert said["required"] is False and not (tmp_path / "root").exists()
