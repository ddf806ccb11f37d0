"""Ed25519 verification in plain integers (RFC 8032 §5.1.7), for boards without OpenSSH. Nothing here is secret.

Strict where implementations differ: S must be below the group's order, points must be encoded canonically, neither the key nor
R may be of small order, and the equation is checked without the cofactor. What passes here passes everywhere.
"""

from __future__ import annotations

import hashlib
from typing import Optional, Tuple

Point = Tuple[int, int, int, int]
"""Extended homogeneous coordinates (X, Y, Z, T): x = X/Z, y = Y/Z, x·y = T/Z."""

_P = 2**255 - 19
_ORDER = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_ONE = pow(2, (_P - 1) // 4, _P)
_NEUTRAL = (0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) by `key` (32 bytes) over `message` holds."""
    if len(key) != 32 or not is_canonical(signature):
        return False
    a, r = _decode(key), _decode(signature[:32])
    if a is None or r is None or _is_small(a) or _is_small(r):
        return False
    s = int.from_bytes(signature[32:], "little")
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % _ORDER
    return _same(_combine(s, _BASE, h, _negated(a)), r)


def is_canonical(signature: bytes) -> bool:
    """Whether a signature has the right length and its S is the one of many that RFC 8032 allows."""
    return len(signature) == 64 and int.from_bytes(signature[32:], "little") < _ORDER


def is_usable(key: bytes) -> bool:
    """Whether a public key is a point of the curve, encoded canonically, and not of small order."""
    point = _decode(key) if len(key) == 32 else None
    return point is not None and not _is_small(point)


def _decode(data: bytes) -> Optional[Point]:
    """RFC 8032 §5.1.3; None where `data` is no canonical encoding of a point."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P == -u % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
    if v * x * x % _P != u or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return x, y, 1, x * y % _P


def _add(a: Point, b: Point) -> Point:
    """RFC 8032 §5.1.4: complete, so it also doubles."""
    p = (a[1] - a[0]) * (b[1] - b[0]) % _P
    q = (a[1] + a[0]) * (b[1] + b[0]) % _P
    c = 2 * a[3] * b[3] * _D % _P
    d = 2 * a[2] * b[2] % _P
    e, f, g, h = q - p, d - c, d + c, q + p
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(a: Point) -> Point:
    p, q = a[0] * a[0], a[1] * a[1]
    h = p + q
    e = h - (a[0] + a[1]) ** 2
    g = p - q
    f = 2 * a[2] * a[2] + g
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _combine(s: int, a: Point, h: int, b: Point) -> Point:
    """s·a + h·b, the two scalars read side by side (Shamir's trick)."""
    both = _add(a, b)
    result: Point = _NEUTRAL
    for bit in range(max(s.bit_length(), h.bit_length()) - 1, -1, -1):
        result = _double(result)
        left, right = s >> bit & 1, h >> bit & 1
        if left or right:
            result = _add(result, both if left and right else a if left else b)
    return result


def _negated(a: Point) -> Point:
    return -a[0] % _P, a[1], a[2], -a[3] % _P


def _same(a: Point, b: Point) -> bool:
    return (a[0] * b[2] - b[0] * a[2]) % _P == 0 and (a[1] * b[2] - b[1] * a[2]) % _P == 0


def _is_small(a: Point) -> bool:
    """Whether a point's order divides 8: it would make a signature hold for any message."""
    return _same(_double(_double(_double(a))), _NEUTRAL)


def _base() -> Point:
    point = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))
    assert point is not None
    return point


_BASE = _base()
