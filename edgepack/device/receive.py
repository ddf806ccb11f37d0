"""Blobs arrive as one stream: a line of JSON that says which, then their bytes. What arrived before a cut is kept."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import select
from typing import Any, Dict, Iterator, List, Sequence, Set

from . import store
from .faults import Fault
from .requests import BlobPart, ReceiveRequest

IDLE_SECONDS = 60.0
_F_SETPIPE_SZ = 1031
"""Linux's, which `fcntl` names since Python 3.10 only."""
_PIPE = 1 << 20
"""Bytes between the SSH server and us: the usual 64 KiB make the two of them wait for each other, and halve the speed."""
_CHUNK = 1 << 18
_LONGEST_LINE = 16 << 20
_WORTH_A_THREAD = 4 << 20
_BETWEEN_SYNCS = 0.05


class Stream:
    """A file descriptor, read with patience that ends: a sender that stalls for a minute is gone."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._ahead = b""
        with contextlib.suppress(OSError):  # no pipe, or this user has no right to so large a one
            fcntl.fcntl(descriptor, _F_SETPIPE_SZ, _PIPE)

    def line(self) -> bytes:
        """The first line without its end; all there is when the stream ends before."""
        while b"\n" not in self._ahead and len(self._ahead) < _LONGEST_LINE:
            data = self._wait()
            if not data:
                break
            self._ahead += data
        line, _, self._ahead = self._ahead.partition(b"\n")
        return line

    def read(self, limit: int) -> bytes:
        """At most `limit` bytes, none at the end."""
        if not self._ahead:
            self._ahead = self._wait()
        data, self._ahead = self._ahead[:limit], self._ahead[limit:]
        return data

    def _wait(self) -> bytes:
        if not select.select([self._descriptor], [], [], IDLE_SECONDS)[0]:
            raise Fault(
                "board",
                f"nothing arrived at the board for {IDLE_SECONDS:.0f} s",
                advice="run this again: what arrived is kept",
            )
        return os.read(self._descriptor, _CHUNK)


def receive(root: str, request: ReceiveRequest, stream: Stream) -> Dict[str, Any]:
    """Store the request's blobs. Each is digest checked before it gets its name.

    Raises Fault for a full disk (before the first byte), a stream that ends early (what came is kept), a wrong digest.
    """
    with store.locked(root, "receive"):
        for folder in ("sha256", "partial"):
            os.makedirs(os.path.join(root, "blobs", folder), exist_ok=True)
        store.sweep(os.path.join(root, "blobs", "partial"))
        needed = sum(part.size - part.offset + part.makes_size for part in request.blobs)
        store.ensure_space(root, needed, "what is sent")
        received = 0
        for part in request.blobs:
            received += _one(root, part, stream)
    return {"bytes": received}


def states(root: str, digests: Sequence[str], thorough: bool) -> List[Dict[str, Any]]:
    """How much of each blob is here, and of whatever else has begun to arrive.

    thorough: a blob whose bytes changed counts as missing
    """
    found = []
    for digest in digests:
        blob = store.blob_path(root, digest)
        complete = os.path.exists(blob)
        if complete and thorough and store.hash_file(blob) != digest:
            found.append({"digest": digest, "bytes": 0, "complete": False})
            continue
        path = store.blob_path(root, digest) if complete else store.partial_path(root, digest)
        size = os.path.getsize(path) if os.path.exists(path) else 0
        found.append({"digest": digest, "bytes": size, "complete": complete})
    return found + _begun(root, set(digests))


def _begun(root: str, known: Set[str]) -> List[Dict[str, Any]]:
    partial = os.path.join(root, "blobs", "partial")
    begun = ["sha256:" + name for name in store.names_in(partial)]
    return [
        {"digest": digest, "bytes": os.path.getsize(store.partial_path(root, digest)), "complete": False}
        for digest in begun
        if digest not in known
    ]


def _one(root: str, part: BlobPart, stream: Stream) -> int:
    goal = part.makes or part.digest
    blob = store.blob_path(root, goal)
    if os.path.exists(blob) and store.hash_file(blob) == goal:
        return _skip(stream, part.size - part.offset, part)
    path = _take(root, part, stream)
    if part.makes:
        _apply(root, path, part)
    else:
        os.chmod(path, 0o444)
        os.replace(path, blob)
        store.sync_folder(os.path.dirname(blob))
    return part.size - part.offset


def _apply(root: str, path: str, part: BlobPart) -> None:
    from . import delta  # few pushes bring one, and a small board takes long to compile it

    try:
        delta.apply(root, path, part.makes, part.makes_size)
    except (Fault, OSError) as error:
        if not isinstance(error, Fault) or error.kind == "trust":  # it will not do better next time
            os.unlink(path)
        raise
    for left in (path, store.partial_path(root, part.makes)):
        if os.path.exists(left):
            os.unlink(left)


def _take(root: str, part: BlobPart, stream: Stream) -> str:
    """Where the part's bytes are once all of them are here, fsynced, and their digest is right."""
    left = part.size - part.offset
    path = store.partial_path(root, part.digest)
    hasher = _resume(path, part)
    with open(path, "ab") as file:
        try:
            with _written_behind(file.fileno(), left):
                while left:
                    data = stream.read(min(left, _CHUNK))
                    if not data:
                        raise _ended(part, left)
                    file.write(data)
                    hasher.update(data)
                    left -= len(data)
                file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.unlink(path)  # a full disk is not helped by half a model on it
            raise
    if "sha256:" + hasher.hexdigest() != part.digest:
        os.unlink(path)
        raise Fault(
            "trust",
            f"what arrived as {part.digest} has the digest sha256:{hasher.hexdigest()}",
            expected="the bytes that the bundle's manifest names",
            advice="run this again; if it stays, the bundle or the link is broken (edgepack verify BUNDLE)",
        )
    return path


@contextlib.contextmanager
def _written_behind(descriptor: int, size: int) -> Iterator[None]:
    """Bring a file to the disk while it grows, so that the sync at its end has little left to wait for.

    Raises OSError at the end for an error that the disk had meanwhile: Linux reports it once, to whoever syncs first.
    """
    if size < _WORTH_A_THREAD:
        yield
        return
    import threading

    ended = threading.Event()
    errors: List[OSError] = []

    def sync() -> None:
        while not ended.wait(_BETWEEN_SYNCS) and not errors:
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                errors.append(error)

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if errors:
        raise errors[0]


def _resume(path: str, part: BlobPart) -> Any:
    """A hasher over what is already here. A partial file of another length than the sender believes is refused."""
    hasher = hashlib.sha256()
    if part.offset == 0:
        with open(path, "wb"):
            return hasher
    present = os.path.getsize(path) if os.path.exists(path) else 0
    if present != part.offset:
        raise Fault(
            "board",
            f"{part.digest}: {present} bytes are here, the sender goes on at {part.offset}",
            advice="run this again",
        )
    with open(path, "rb") as file:
        store.update(hasher, file, None)
    return hasher


def _skip(stream: Stream, left: int, part: BlobPart) -> int:
    while left:
        data = stream.read(min(left, _CHUNK))
        if not data:
            raise _ended(part, left)
        left -= len(data)
    return part.size - part.offset


def _ended(part: BlobPart, left: int) -> Fault:
    return Fault(
        "board",
        f"the stream ended {left} bytes before the end of {part.digest}",
        advice="run this again: what arrived is kept",
    )
