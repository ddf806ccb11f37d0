"""Every bundle version that was ever released stays here as it was, opens, verifies and installs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack import boards, delivery, digest
from edgepack.boards.places import TOOLS
from edgepack.bundle import export, open_bundle
from edgepack.cli.progress import Plain
from edgepack.target import Target

RELEASED = {
    "affine-1.0.0-linux-x86_64.edgepack": "sha256:e895680d04c1414cca2709cebe7c80c4b34dd936ce3134e5310c3d8216de3663",
}
HERE = Path(__file__).parent


def test_none_is_missing_and_none_is_unknown():
    assert {path.name for path in HERE.glob("*.edgepack")} == RELEASED.keys()


@pytest.mark.parametrize("name", RELEASED)
def test_it_opens_verifies_and_is_what_it_was(name, tmp_path):
    bundle = open_bundle(HERE / name)
    bundle.verify()
    assert bundle.digest == RELEASED[name]
    assert (HERE / name).stat().st_size < 100_000
    assert export(bundle, tmp_path).path.read_bytes() == (HERE / name).read_bytes()
    statement = json.loads(bundle.document("provenance") or b"{}")
    subjects = {one["digest"]["sha256"] for one in statement["subject"]}
    assert subjects == {digest.hex_of(one.digest) for one in bundle.manifest.variants}


@pytest.fixture
def board(test_home: Path) -> Iterator[Target]:
    """A board whose own Python is this one, so that the runtime which these bundles want of the system is there."""
    (target,) = boards.up("released", "loopback", "", 1, Plain())
    python = test_home / "boards/released" / TOOLS / "python3"
    python.unlink()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    yield target
    boards.down("released", Plain())


@pytest.mark.board
@pytest.mark.frameworks
@pytest.mark.parametrize("name", RELEASED)
def test_it_installs(name, board):
    bundle = open_bundle(HERE / name)
    (result,) = delivery.push(bundle, [board], allow_unsigned=True, downgrade=False, progress=Plain())
    assert (result.outcome, result.release) == ("activated", bundle.digest), result.reason
    (state,) = delivery.status([board], Plain())
    assert [(one.digest, one.active, one.verified) for one in state.releases if one.name == bundle.manifest.name] == [
        (bundle.digest, True, True)
    ]
