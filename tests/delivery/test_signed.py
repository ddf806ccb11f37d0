"""Signed bundles on a real board: what a board with keys takes, what it refuses, and what it says of it afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from edgepack import delivery, record, signing, trust
from edgepack.bundle import Bundle, open_bundle
from edgepack.cli.progress import Plain
from edgepack.delivery import PushResult
from edgepack.errors import EdgepackError, TrustError
from edgepack.protocol import TrustFacts
from edgepack.signing import Terms
from edgepack.sshsig import PublicKey
from edgepack.target import Target
from edgepack.trust import Signer

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]


def make_signer(folder: Path, name: str) -> Signer:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    return trust.load_signer(folder / name, lambda prompt: "")


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return make_signer(tmp_path, "key")


@pytest.fixture
def other(tmp_path: Path) -> Signer:
    return make_signer(tmp_path, "other")


def entrust(board: Target, *keys: PublicKey, revoked: tuple[str, ...] = ()) -> TrustFacts:
    return delivery.entrust(board, board.host_key, keys, revoked)


def push(bundle: Bundle, target: Target, *, allow_unsigned: bool = False, downgrade: bool = False) -> PushResult:
    (result,) = delivery.push(bundle, [target], allow_unsigned=allow_unsigned, downgrade=downgrade, progress=Plain())
    return result


def test_a_board_checks_the_signature_and_remembers_it(
    make_bundle: MakeBundle, board: Target, signer: Signer, root: Path
) -> None:
    told = entrust(board, signer.key)
    assert told.keys == (signer.key.fingerprint,) and told.required and told.device == board.name
    bundle = signing.sign(make_bundle(), signer, Terms(lasts=3600))
    result = push(bundle, board)
    assert (result.outcome, result.assurance, result.key) == ("activated", "signed", signer.key.fingerprint), result
    assert "checked there by ssh-keygen" in result.reason
    again = push(bundle, board)
    assert (again.outcome, again.assurance, again.bytes_sent) == ("unchanged", "signed", 0)
    (state,) = delivery.status([board], Plain())
    (release,) = state.releases
    assert (release.assurance, release.key, release.expired) == ("signed", signer.key.fingerprint, False)
    assert release.expires and release.verified
    (found,) = delivery.check([board], Plain())
    assert found.facts and found.facts.trust.keys == (signer.key.fingerprint,)
    log = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    assert any(entry["verb"] == "install" and signer.key.fingerprint in entry["trust"] for entry in log)


def test_a_board_with_keys_takes_nothing_else(
    make_bundle: MakeBundle, board: Target, signer: Signer, other: Signer, root: Path
) -> None:
    entrust(board, signer.key)
    bundle = make_bundle()
    for allow in (False, True):
        refused = push(bundle, board, allow_unsigned=allow)
        assert refused.exit_code == 6 and "not signed" in refused.reason, refused
    foreign = signing.sign(bundle, other, Terms())
    for allow in (False, True):
        refused = push(foreign, board, allow_unsigned=allow)
        assert refused.exit_code == 6 and other.key.fingerprint in refused.reason
    assert not (root / "blobs").exists(), "something was sent"
    both = signing.sign(open_bundle(foreign.path), signer, Terms(), beside=True)
    assert push(both, board).key == signer.key.fingerprint, "one of two signatures is enough"


def test_a_signature_comes_to_a_release_that_is_already_there(
    make_bundle: MakeBundle, board: Target, signer: Signer
) -> None:
    bundle = make_bundle()
    assert push(bundle, board, allow_unsigned=True).assurance == "unsigned"
    signed = signing.sign(bundle, signer, Terms())
    assert signed.digest == bundle.digest
    first = push(signed, board, allow_unsigned=True)
    assert (first.outcome, first.assurance) == ("unchanged", "digests-only")
    assert "only digests were checked" in first.reason
    entrust(board, signer.key)
    assert push(signed, board).assurance == "signed"
    assert push(signed, board).bytes_sent == 0


def test_a_stranger_s_signature_is_as_good_as_none(
    make_bundle: MakeBundle, board: Target, other: Signer, root: Path
) -> None:
    refused = push(signing.sign(make_bundle(), other, Terms()), board)
    assert refused.exit_code == 6 and "not trusted" in refused.reason and not (root / "blobs").exists()


def test_a_key_that_this_host_trusts_is_enough_for_a_board_that_was_never_told(
    make_bundle: MakeBundle, board: Target, signer: Signer, other: Signer, test_home: Path
) -> None:
    path = trust.trust(signer.key)
    try:
        result = push(signing.sign(make_bundle(), signer, Terms()), board)
        assert (result.outcome, result.assurance) == ("activated", "digests-only")
        assert push(signing.sign(make_bundle("1.1.0"), other, Terms()), board).exit_code == 6
    finally:
        path.unlink()


def test_an_older_version_goes_back_only_with_permission(
    make_bundle: MakeBundle, board: Target, signer: Signer
) -> None:
    entrust(board, signer.key)
    old, new = make_bundle("1.0.0"), signing.sign(make_bundle("1.1.0", bias=2.0), signer, Terms())
    assert push(new, board).outcome == "activated"
    replayed = push(signing.sign(old, signer, Terms()), board)
    assert replayed.exit_code == 4 and "1.1.0" in replayed.reason
    asked = push(open_bundle(old.path), board, downgrade=True)
    assert asked.exit_code == 6 and "--allows-downgrade-from 1.1.0" in asked.reason
    permitted = signing.sign(open_bundle(old.path), signer, Terms(allows_downgrade_from="1.1.0"))
    assert push(permitted, board).exit_code == 4, "a permission does not go back by accident"
    assert push(permitted, board, downgrade=True).outcome == "activated"
    (back,) = delivery.rollback([board], "sum", Plain())
    assert back.exit_code == 0 and back.release == new.digest


def test_keys_change_and_a_revoked_one_is_refused(
    make_bundle: MakeBundle, board: Target, signer: Signer, other: Signer
) -> None:
    entrust(board, signer.key)
    first = signing.sign(make_bundle("1.0.0"), signer, Terms())
    assert push(first, board).outcome == "activated"
    entrust(board, other.key)
    assert push(signing.sign(make_bundle("1.1.0"), other, Terms()), board).outcome == "activated"
    entrust(board, revoked=(signer.key.fingerprint,))
    refused = push(signing.sign(make_bundle("1.2.0"), signer, Terms()), board)
    assert refused.exit_code == 6 and "revoked" in refused.reason
    (back,) = delivery.rollback([board], "sum", Plain())
    assert back.release == first.digest, "what was installed can always be gone back to"


def test_what_is_meant_for_others_and_what_expired_is_refused(
    make_bundle: MakeBundle, board: Target, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = structs.replace(board, labels={"ring": "canary"})
    entrust(board, signer.key)
    bundle = make_bundle()
    refused = push(signing.sign(bundle, signer, Terms(targets=("cellar", "ring=stable"))), board)
    assert refused.exit_code == 6 and "cellar or ring=stable" in refused.reason
    relabelled = structs.replace(board, labels={"ring": "stable"})
    refused = push(open_bundle(bundle.path), relabelled)
    assert refused.exit_code == 6 and "canary" in refused.reason, "the board knows better than this host's inventory"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(int(time.time()) - 7200))
    refused = push(signing.sign(open_bundle(bundle.path), signer, Terms(lasts=3600)), board)
    assert refused.exit_code == 6 and "expired" in refused.reason
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert (
        push(
            signing.sign(open_bundle(bundle.path), signer, Terms(lasts=3600, targets=("ring=canary",))), board
        ).exit_code
        == 0
    )


def test_an_agent_decides_for_itself_what_its_host_did_not(
    make_bundle: MakeBundle, board: Target, signer: Signer, other: Signer, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    """A host that was taken over asks the agent directly."""
    from edgepack import actions, admission

    entrust(board, signer.key)
    monkeypatch.setattr(actions, "admitted", lambda content, wish, facts: next(iter(content.offers), None))
    forged = {
        "sum 1.0.0 is not signed": make_bundle(),
        "which this board does not trust": signing.sign(make_bundle(), other, Terms()),
        "not meant for this board": signing.sign(make_bundle(), signer, Terms(targets=("ring=canary",))),
    }
    for said, what in forged.items():
        refused = push(what, structs.replace(board, labels={"ring": "canary"}), allow_unsigned=True)
        assert refused.exit_code == 6 and said in refused.reason, refused
        assert not (root / "releases").exists()
    replayed = signing.offers(signing.sign(make_bundle("9.9.9"), signer, Terms()))
    bundle = make_bundle()
    monkeypatch.setattr(actions, "admitted", lambda content, wish, facts: replayed[0])
    monkeypatch.setattr(admission, "judge", lambda evidence: admission.Admitted("signed"))
    refused = push(bundle, board, allow_unsigned=True)
    assert refused.exit_code == 6 and "signed record is not of sum 1.0.0" in refused.reason


def test_a_file_of_a_signed_bundle_that_flips_a_bit_reaches_no_board(
    make_bundle: MakeBundle, board: Target, signer: Signer, root: Path
) -> None:
    signed = signing.sign(make_bundle(padding=4096), signer, Terms())
    entrust(board, signer.key)
    data = bytearray(signed.path.read_bytes())
    data[data.index(b"BEGIN SSH SIGNATURE") + 60] ^= 1
    signed.path.write_bytes(data)
    with pytest.raises(TrustError):
        push(open_bundle(signed.path), board)
    assert not (root / "blobs").exists()


def test_signing_twice_gives_the_same_bytes(
    make_bundle: MakeBundle, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    bundle = make_bundle()
    first = signing.sign(bundle, signer, Terms(lasts=60)).path.read_bytes()
    assert signing.sign(open_bundle(bundle.path), signer, Terms(lasts=60)).path.read_bytes() == first
    (offer,) = signing.offers(open_bundle(bundle.path))
    assert offer.record.issued == record.at(1700000000) and offer.record.expires == record.at(1700000060)


@pytest.mark.parametrize(
    "words", [("90", (), ""), ("0d", (), ""), ("", ("A b",), ""), ("", ("a=b or",), ""), ("", (), "1.0")]
)
def test_terms_that_no_record_may_have(words: tuple[str, tuple[str, ...], str]) -> None:
    with pytest.raises(EdgepackError) as caught:
        signing.terms(*words)
    assert caught.value.exit_code in (2, 3)
