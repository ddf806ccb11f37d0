"""The host's apt sources, copied for another architecture."""

from __future__ import annotations

import pytest

from edgepack.boards import rootfs

SOURCES = """\
# the mirror nearest to us
Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Architectures: amd64
 i386
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


def test_a_paragraph_keeps_its_mirror_and_its_key_and_no_architecture():
    assert rootfs.paragraph(SOURCES, 1) == (
        "Types: deb\n"
        "URIs: http://mirror.example/debian\n"
        "Suites: bookworm bookworm-updates\n"
        "Components: main\n"
        "Signed-By:\n"
        " -----BEGIN PGP PUBLIC KEY BLOCK-----\n"
        " .\n"
        " mQINBF\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    assert "debian-security" in rootfs.paragraph(SOURCES, 2)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("deb http://m.example/debian bookworm main", "deb http://m.example/debian bookworm main\n"),
        ("deb [arch=amd64] http://m.example/debian bookworm main", "deb http://m.example/debian bookworm main\n"),
        (
            "deb [arch=amd64,i386 signed-by=/k.gpg] http://m.example/debian bookworm main",
            "deb [signed-by=/k.gpg] http://m.example/debian bookworm main\n",
        ),
        ("deb [ trusted=yes ] file:/srv/debian bookworm main", "deb [trusted=yes] file:/srv/debian bookworm main\n"),
    ],
)
def test_a_line_keeps_its_options_and_no_architecture(given, kept):
    assert rootfs.one_line(given) == kept
