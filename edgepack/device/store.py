"""What edgepack keeps on a board, and how it is written so that a kill or a power cut leaves the old or the new, whole.

    ROOT/                              `~/.edgepack`, or the target's `root`
      agent/HEX/agent.pyz              the agent, by the digest of its bytes
      blobs/sha256/HEX                 content store; blobs/partial/HEX what is still arriving
      runtimes/KEY/                    a virtual environment, or nothing but a note that the system provides it
        runtime.json                   {"runtime", "version", "key", "provider", "python"}: written last, so it counts
      releases/NAME/HEX/               HEX of the bundle's digest
        manifest.json                  the bundle's manifest, byte for byte
        VARIANT                        model files, links to blobs
        run.py                         for applications
        release.json                   {"schema", "name", "version", "digest", "profile", "variant", "variants",
                                        "runtimes": {RUNTIME: KEY}, "assurance", "key", "record", "signature", …}: written
                                        after the signature was checked and the self-test passed, so it counts
      current/NAME                     → ../releases/NAME/HEX
      trust/  clock.json               whom this board trusts, see trust.py
      state.json  log.jsonl  lock

KEY is the HEX of the runtime lock's digest, or `system-RUNTIME`. Names that start with a dot are being written or removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import time
from typing import Any, BinaryIO, Dict, Iterator, List, NamedTuple, Optional, Tuple

from .faults import Fault

LOCK_SECONDS = 10.0
RESERVE = 8 << 20
"""Bytes that stay free whatever is received: a board without any cannot even write its logs."""
_CHUNK = 1 << 18


class Line(NamedTuple):
    """One name's releases. history: confirmed ones, newest last; highest: version ever switched to; trial: not yet confirmed."""

    history: Tuple[str, ...] = ()
    highest: str = ""
    trial: str = ""


def hex_of(digest: str) -> str:
    return digest.partition(":")[2]


def runtime_folder(root: str, key: str) -> str:
    """key: a lock's digest, or `system:RUNTIME`."""
    return os.path.join(root, "runtimes", hex_of(key) if key.startswith("sha256:") else "system-" + hex_of(key))


def blob_path(root: str, digest: str) -> str:
    return os.path.join(root, "blobs", "sha256", hex_of(digest))


def partial_path(root: str, digest: str) -> str:
    return os.path.join(root, "blobs", "partial", hex_of(digest))


def release_folder(root: str, name: str, digest: str) -> str:
    return os.path.join(root, "releases", name, hex_of(digest))


def current_link(root: str, name: str) -> str:
    return os.path.join(root, "current", name)


def active(root: str, name: str) -> str:
    """The digest of the release that `current/NAME` points to, or nothing."""
    try:
        return "sha256:" + os.path.basename(os.readlink(current_link(root, name)))
    except (FileNotFoundError, NotADirectoryError):
        return ""


def hash_file(path: str) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        update(hasher, file, None)
    return "sha256:" + hasher.hexdigest()


def hash_text(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def ensure_intact(path: str, digest: str) -> None:
    """Raises Fault where a stored file's bytes changed, after forgetting it, so that the next push sends it again."""
    found = hash_file(path)
    if found == digest:
        return
    os.unlink(path)
    raise Fault(
        "trust",
        f"{path} changed since it was received: its digest is {found}",
        expected=digest,
        advice="push the bundle again; if it stays, the board's disk is failing",
    )


def update(hasher: Any, file: BinaryIO, limit: Optional[int]) -> int:
    """Feed at most `limit` bytes of `file` to `hasher`; how many there were."""
    done = 0
    while limit is None or done < limit:
        data = file.read(_CHUNK if limit is None else min(_CHUNK, limit - done))
        if not data:
            break
        hasher.update(data)
        done += len(data)
    return done


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: str, data: bytes) -> None:
    """Replace `path` atomically: write aside, fsync, rename, fsync the folder."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_folder(folder)


def write_json(path: str, value: Any) -> None:
    write_file(path, json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n")


def read_json(path: str) -> Any:
    """A JSON file that the agent wrote, or None where there is none. Raises Fault where it is broken."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        raise Fault(
            "board",
            f"{path} is broken",
            expected="JSON, as the agent wrote it",
            advice=f"look at the board's disk; then remove {path} and push again",
        ) from None


def read_lines(root: str) -> Dict[str, Line]:
    """state.json: every name's line of releases."""
    raw = read_json(os.path.join(root, "state.json")) or {}
    return {
        name: Line(tuple(line["history"]), line["highest"], line["trial"])
        for name, line in raw.get("names", {}).items()
    }


def write_line(root: str, name: str, line: Optional[Line]) -> None:
    """Replace one name's line in state.json; None forgets it."""
    lines = read_lines(root)
    if line is None:
        lines.pop(name, None)
    else:
        lines[name] = line
    write_json(os.path.join(root, "state.json"), {"schema": 1, "names": {n: one._asdict() for n, one in lines.items()}})


@contextlib.contextmanager
def locked(root: str, verb: str, who: str = "") -> Iterator[None]:
    """Hold the board's one lock. Raises Fault when another agent still holds it after a quarter of the verb's deadline."""
    os.makedirs(root, mode=0o755, exist_ok=True)
    left = signal.getitimer(signal.ITIMER_REAL)[0]
    limit = time.monotonic() + (min(LOCK_SECONDS, left / 4) if left else LOCK_SECONDS)
    with open(os.path.join(root, "lock"), "a+") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            if time.monotonic() >= limit:
                file.seek(0)
                raise Fault(
                    "board",
                    f"another edgepack is at work on this board ({file.read(200).strip() or 'unknown'})",
                    expected=f"{root}/lock to be free",
                    advice="run this again when the other one is done",
                )
            time.sleep(0.05)
        file.seek(0)
        file.truncate()
        file.write(f"{verb}{' by ' + who if who else ''}, process {os.getpid()}\n")
        file.flush()
        yield


def ensure_space(root: str, needed: int, purpose: str) -> None:
    """Raises Fault unless `needed` bytes fit beside the reserve."""
    free = free_space(root)
    if needed + RESERVE > free:
        raise Fault(
            "board",
            f"not enough space on the board for {purpose}: {needed} bytes needed, {free} free below {root}",
            expected=f"{needed + RESERVE} bytes free, {RESERVE} of them kept as a reserve",
            advice="free some of it, or give the target another `root` in the inventory",
        )


def free_space(path: str) -> int:
    """Bytes that this user may still write below the nearest folder of `path` that exists."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def discard(path: str) -> None:
    """Remove a folder so that it is never seen half removed under its name."""
    folder, name = os.path.split(path)
    aside = os.path.join(folder, f".gone-{name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside, ignore_errors=True)


def names_in(folder: str) -> List[str]:
    """What a folder holds, sorted, without what is being written or removed."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except FileNotFoundError:
        return []


def sweep(folder: str) -> None:
    """Remove what a killed agent left aside. Only under the lock: nobody else is writing."""
    try:
        leftovers = [name for name in os.listdir(folder) if name.startswith(".")]
    except FileNotFoundError:
        return
    for name in leftovers:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
