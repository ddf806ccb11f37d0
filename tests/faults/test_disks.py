"""Disks that are full, read-only, out of inodes, failing or lying: said with a name, old or new, whole, and it goes on after."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from edgepack.protocol import BlobPart, ReceiveRequest

pytestmark = [pytest.mark.faults]

Amount = Callable[[str], int]
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EDQUOT)


def test_an_error_at_every_write(
    stages: list[Any], chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    row = "errors of the disk"
    pushing = [stage for stage in stages if stage.verb not in ("rollback", "remove")]
    cases = [(stage, state) for stage in pushing for state in stage.states]
    if (wanted := amount(row)) < len(cases):
        cases = chance.sample(cases, wanted)
    for number, (stage, state) in enumerate(cases):
        copy = stage.before.copy(tmp_path / f"error-{number}")
        with tally.fault(row):
            done = copy.rig.run(
                stage.verb, stage.request, stage.data, hook={"at": state, "errno": chance.choice(ERRORS)}
            )
            assert done.code in (0, 1) and "Traceback" not in done.stderr, (state, done)
            if done.code == 1:
                assert done.reply["error"]["kind"] in ("board", "gate", "trust"), (state, done.reply)
                tally.add(row, said=1)
            copy.rig.assert_whole(copy.old, copy.new)
            copy.rig.push(copy.steps)
            copy.rig.assert_whole(copy.new)
        shutil.rmtree(copy.rig.root)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def needs_mounts(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path / "probe", "size=1m"):
            return
    except (subprocess.CalledProcessError, OSError):
        pytest.skip("a small disk is a mount, which needs root here")


def test_a_small_disk_fills_up(
    updating: Any, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """tmpfs of every size from none to enough, and with every number of inodes."""
    needs_mounts(tmp_path)
    row = "full disks"
    for number in range(amount(row)):
        inodes = number % 2 == 1
        with mounted(tmp_path / f"disk-{number}", "size=64m,nr_inodes=10000") as disk, tally.fault(row):
            copy = updating.copy(disk / "root")
            files = sum(len(names) + len(folders) for _, folders, names in os.walk(disk)) + 1
            used = sum(path.stat().st_blocks * 512 for path in disk.rglob("*") if not path.is_symlink())
            limit = (
                f"nr_inodes={files + 1 + chance.randrange(40)}"
                if inodes
                else f"size={used + (8 << 20) + chance.randrange(3 << 20)}"
            )
            subprocess.run(["mount", "-o", f"remount,{limit}", disk], check=True)
            for verb, request, data in copy.steps.verbs():
                done = copy.rig.run(verb, request, data)
                assert done.code in (0, 1) and "Traceback" not in done.stderr, (limit, verb, done)
                if done.code == 1:
                    assert done.reply["error"]["kind"] in ("board", "gate"), (limit, done.reply)
                    tally.add(row, said=1)
                    break
            copy.rig.assert_whole(copy.old, copy.new)
            subprocess.run(["mount", "-o", "remount,size=128m,nr_inodes=10000", disk], check=True)
            copy.rig.push(copy.steps)
            copy.rig.assert_whole(copy.new)


def test_a_disk_that_went_read_only(updating: Any, tally: Any, tmp_path: Path) -> None:
    needs_mounts(tmp_path)
    with mounted(tmp_path / "disk", "size=64m") as disk:
        copy = updating.copy(disk / "root")
        for verb, request, data in updating.steps.verbs():
            with tally.fault("read-only disks"):
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
                done = copy.rig.run(verb, request, data)
                error = done.reply["error"]
                assert error["kind"] == "board" and "read-only" in error["what"].lower() + error["advice"], error
                copy.rig.assert_whole(copy.old)
                assert copy.rig.run("status").code == 0, "what is there can be asked"
                subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
            copy.rig.ok(verb, request, data)


def test_a_flipped_bit_in_what_is_sent(
    updating: Any, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """In each blob, below SSH's own check: a broken cache, bad memory, a bundle that rots."""
    row = "flipped bits in what is sent"
    steps = updating.steps
    for number in range(amount(row)):
        part = steps.send.blobs[number % len(steps.send.blobs)]
        evil = bytearray(steps.blobs[part.digest])
        bit = chance.randrange(len(evil) * 8)
        evil[bit // 8] ^= 1 << bit % 8
        broken = replace(steps, blobs=steps.blobs | {part.digest: bytes(evil)})
        with tally.fault(row):
            done = updating.rig.run("receive", steps.send, broken.data)
            assert done.reply["error"]["kind"] == "trust", done
            (state,) = updating.rig.states((part.digest,))
            assert not state["complete"]
            for verb, request, _ in steps.verbs()[2:]:
                assert updating.rig.run(verb, request).code == 1
            updating.rig.assert_whole(updating.old)
        for digest in steps.blobs:  # a blob that is whole is not taken again
            for kind in ("sha256", "partial"):
                (updating.rig.root / "blobs" / kind / digest.partition(":")[2]).unlink(missing_ok=True)


def test_a_flipped_bit_on_the_board(
    updating: Any, chance: random.Random, amount: Amount, tally: Any, tmp_path: Path
) -> None:
    """In each file of a release that arrived whole, before it is installed or before it is activated: it never is."""
    row = "flipped bits on the board's disk"
    arrived = updating.copy(tmp_path / "arrived")
    for verb, request, data in updating.steps.verbs()[:2]:
        arrived.rig.ok(verb, request, data)
    installed = arrived.copy(tmp_path / "installed")
    installed.rig.ok("install", updating.steps.install)
    install = updating.steps.install
    (wheels, manifest) = ({one.digest for one in updating.steps.provide.wheels}, install.manifest)
    golden = updating.golden
    blobs = [part.digest for part in updating.steps.send.blobs if part.digest not in wheels]
    for number in range(amount(row)):
        before = (arrived, installed)[number % 2]
        blob = blobs[number // 2 % len(blobs)]
        copy = before.copy(tmp_path / f"flip-{number}")
        path = copy.rig.root / "blobs/sha256" / blob.partition(":")[2]
        data = bytearray(path.read_bytes())
        bit = chance.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
        path.chmod(0o644)
        path.write_bytes(bytes(data))
        with tally.fault(row):
            done = [copy.rig.run(verb, request) for verb, request, _ in copy.steps.verbs()[2:]]
            assert any(one.code == 1 for one in done), (blob == manifest, done)
            # golden samples that rot after they were run are not what runs
            tested = before is installed and blob == golden
            copy.rig.assert_whole(copy.old, *((copy.new,) if tested else ()))
            copy.rig.push(copy.steps)  # what changed is sent again
            copy.rig.assert_whole(copy.new)
        shutil.rmtree(copy.rig.root)


def test_extreme_sizes(updating: Any, amount: Amount, tally: Any) -> None:
    """No bytes at all; in the long run also more than 4 GiB, cut in the middle."""
    row = "extreme sizes"
    sizes = [0, (4 << 30) + 1, 1, (1 << 31) + 1][: amount(row)]
    for size in sizes:
        hasher = hashlib.sha256()
        block = bytes(1 << 20)
        for at in range(0, size, len(block)):
            hasher.update(block[: min(len(block), size - at)])
        part = BlobPart("sha256:" + hasher.hexdigest(), size)
        with tally.fault(row):
            for offset, until in ((0, size // 2), (size // 2, size)):
                request = ReceiveRequest((structs.replace(part, offset=offset),))
                done = updating.rig.run("receive", request, Zeros(until - offset), seconds=900)
                assert done.code == (0 if until == size else 1), done
            (state,) = updating.rig.states((part.digest,))
            assert state == {"digest": part.digest, "bytes": size, "complete": True}
        (updating.rig.root / "blobs/sha256" / part.digest.partition(":")[2]).unlink()


class Zeros:
    """So many zero bytes, never all of them in memory."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, at: slice) -> bytes:
        return bytes(min(at.stop, self._size) - at.start)
