"""Whom this user trusts: files as OpenSSH writes them, added, removed and revoked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack import trust
from edgepack.errors import InputError

MakeKey = Callable[..., Path]


def public(key: Path) -> Path:
    return key.with_name(key.name + ".pub")


def test_keys_are_added_revoked_and_never_come_back(make_key: MakeKey, own_home: Path) -> None:
    (old,), (new,) = (trust.read_keys(public(make_key(name))) for name in ("old", "new"))
    assert trust.load_keyring().trusted == ()
    for key in (old, new, new):
        trust.trust(key)
    assert set(trust.load_keyring().trusted) == {old.fingerprint, new.fingerprint}, "both count while keys change"
    assert old.comment == "old@test"
    trust.revoke(old.fingerprint)
    trust.revoke(old.fingerprint)
    assert trust.load_keyring().trusted == (new.fingerprint,) and trust.load_keyring().revoked == (old.fingerprint,)
    with pytest.raises(InputError, match="was revoked"):
        trust.trust(old)
    trust.distrust(new.fingerprint)
    assert trust.load_keyring().trusted == ()
    with pytest.raises(InputError, match="not trusted"):
        trust.distrust(new.fingerprint)


def test_a_key_that_was_revoked_does_not_count_wherever_it_is_named(make_key: MakeKey, own_home: Path) -> None:
    key = make_key()
    (found,) = trust.read_keys(public(key))
    trust.revoke(found.fingerprint)
    keyring = trust.load_keyring([public(key)])
    assert keyring.keys and not keyring.trusted


def test_allowed_signers_are_read_as_openssh_means_them(make_key: MakeKey, tmp_path: Path) -> None:
    keys = [public(make_key(name)).read_text().strip() for name in ("a", "b", "c")]
    rsa = public(make_key("d", kind="rsa")).read_text().strip()
    file = tmp_path / "allowed_signers"
    file.write_text(
        f"# people\n\nalice@example.org {keys[0]}\n"
        f'bob namespaces="git,edgepack.release.1" {keys[1]}\ncarol namespaces="git" {keys[2]}\ndave {rsa}\n'
    )
    assert [key.comment for key in trust.read_keys(file)] == ["a@test", "b@test"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("alice cert-authority {key}", "'cert-authority' is not supported"),
        ('alice valid-before="20200101" {key}', "'valid-before' is not supported"),
        ("nonsense", "not an OpenSSH public key"),
        ("", "no key"),
        ('alice namespaces="git" {key}', "no key that may sign releases"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA", "broken public key"),
    ],
)
def test_a_file_that_would_mean_something_else_is_refused(
    line: str, said: str, make_key: MakeKey, tmp_path: Path
) -> None:
    file = tmp_path / "allowed"
    file.write_text(line.format(key=public(make_key()).read_text().strip()) + "\n")
    with pytest.raises(InputError, match=said) as caught:
        trust.read_keys(file)
    assert str(file) in caught.value.what


def test_a_private_key_is_not_taken_for_a_public_one(make_key: MakeKey) -> None:
    key = make_key()
    with pytest.raises(InputError, match="private key") as caught:
        trust.read_keys(key)
    assert f"{key}.pub" in caught.value.advice


def test_a_broken_list_of_revoked_keys_stops_everything(own_home: Path) -> None:
    own_home.joinpath("trust").mkdir(parents=True)
    own_home.joinpath("trust/revoked").write_text("SHA256:short\n")
    with pytest.raises(InputError, match="revoked"):
        trust.load_keyring()
