"""The board's own Ed25519: the vectors of RFC 8032, OpenSSL beside it, and the edges where implementations differ."""

from __future__ import annotations

import time

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.device import ed25519

ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
# RFC 8032 §7.1: secret key, public key, message, signature
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
# The eight points of small order in their canonical encodings, and two that are not canonical.
SMALL = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0100000000000000000000000000000000000000000000000000000000000080",
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc(secret: str, public: str, message: str, signature: str) -> None:
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret)).public_key().public_bytes_raw().hex() == public
    parts = [bytes.fromhex(part) for part in (public, message, signature)]
    assert ed25519.verify(*parts)
    for index, part in enumerate(parts):
        for bit in range(0, len(part) * 8, 11):
            changed = bytearray(part)
            changed[bit // 8] ^= 1 << bit % 8
            assert not ed25519.verify(*[*parts[:index], bytes(changed), *parts[index + 1 :]])


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511), st.booleans())
@settings(max_examples=60, deadline=None)
def test_it_agrees_with_openssl(secret: bytes, message: bytes, bit: int, damaged: bool) -> None:
    private = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = private.public_key().public_bytes_raw(), bytearray(private.sign(message))
    signature[bit // 8] ^= (1 << bit % 8) if damaged else 0
    assert ed25519.verify(public, message, bytes(signature)) is openssl(public, message, bytes(signature))


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64))
@settings(max_examples=60, deadline=None)
def test_noise_is_refused_and_never_crashes(public: bytes, signature: bytes) -> None:
    assert not ed25519.verify(public, b"message", signature)


def openssl(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_a_second_spelling_of_a_signature_is_refused() -> None:
    """S and S + L mean the same; only the smaller is one (RFC 8032 §5.1.7)."""
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[2])
    for times in range(1, 15):
        s = int.from_bytes(signature[32:], "little") + times * ORDER
        other = signature[:32] + s.to_bytes(32, "little")
        assert not ed25519.is_canonical(other) and not ed25519.verify(public, message, other)
    assert not ed25519.verify(public, message, signature[:32] + ORDER.to_bytes(32, "little"))


@pytest.mark.parametrize("point", SMALL)
def test_a_key_of_small_order_signs_nothing(point: str) -> None:
    """With such a key, R = S·B holds for any message: R the neutral point, S zero, or R = B·S."""
    key = bytes.fromhex(point)
    assert not ed25519.is_usable(key)
    for r in SMALL:
        for message in (b"a", b"b", b"c"):
            assert not ed25519.verify(key, message, bytes.fromhex(r) + bytes(32))


def test_a_point_that_is_not_canonical_is_refused() -> None:
    """y and y + p mean the same point; nineteen values of y have both spellings."""
    for y in range(19):
        for sign in (0, 1 << 255):
            assert not ed25519.is_usable((y + P | sign).to_bytes(32, "little"))


def test_lengths() -> None:
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[1])
    for key, value in ((public[:-1], signature), (public + b"\0", signature), (public, signature[:-1]), (public, b"")):
        assert not ed25519.verify(key, message, value)


def test_it_takes_a_board_no_time_to_speak_of() -> None:
    _, public, message, signature = (bytes.fromhex(part) for part in VECTORS[3])
    best = 9.0
    for _ in range(5):
        start = time.process_time()
        assert ed25519.verify(public, message, signature)
        best = min(best, time.process_time() - start)
    assert best < 0.1, "a hundred times slower than what was measured"
