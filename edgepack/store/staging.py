"""A bundle on its way into the store: its blobs one by one, each checked, then all of it at once by one rename.

A blob is one file with several names: one in `blobs/sha256`, and a hard link in the folder of each bundle that holds it.
Each bundle's folder is thus a whole image layout for any tool, and what nobody holds any more is a file with one name left.
Nothing is locked: a blob that vanishes while it is being linked is simply written again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack import digest, files
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError

_CHUNK = 1 << 20
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


@dataclass(frozen=True)
class Staging:
    """folder: an image layout in the making; shared: the store's own `blobs/sha256`"""

    folder: Path
    shared: Path

    def have(self, blob: Digest, size: int) -> bool:
        """Take a blob that the store holds already. False where it holds none, or other bytes than the digest says."""
        kept, own = self._kept(blob), self._own(blob)
        if own.exists():
            return True
        try:
            _link(kept, own)
        except FileNotFoundError:
            return False
        if own.stat().st_size == size and digest.of_file(own) == blob:
            return True
        own.unlink()  # what rotted on the disk is replaced, for those that come later as well
        kept.unlink(missing_ok=True)
        return False

    @contextmanager
    def receive(self, blob: Digest) -> Iterator[BinaryIO]:
        """A file to write a blob to, by whoever checks its bytes while they come; it is taken if the block succeeds."""
        fresh = self._own(blob).with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                yield file
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self._accept(fresh, blob)

    def put(self, blob: Digest, size: int, stream: BinaryIO) -> None:
        """Write a blob. Raises TrustError where the stream has other bytes, or more or fewer, than `blob` says."""
        if self.have(blob, size):
            return
        with self.receive(blob) as file:
            hashed, left = hashlib.sha256(), size
            while left >= 0 and (data := stream.read(min(_CHUNK, left + 1))):
                hashed.update(data)
                left -= len(data)
                file.write(data)
            if left or hashed.hexdigest() != digest.hex_of(blob):
                raise TrustError(
                    f"the blob {blob} came with other bytes than its digest says",
                    expected=f"{size} bytes of that digest",
                    advice="fetch or copy the bundle again; do not use it as it is",
                )

    def _accept(self, fresh: Path, blob: Digest) -> None:
        own = self._own(blob)
        fresh.chmod(0o444)  # one file under several names: nobody edits it by accident
        files.sync(fresh)
        fresh.replace(own)
        with contextlib.suppress(FileExistsError):
            _link(own, self._kept(blob))

    def _own(self, blob: Digest) -> Path:
        return self.folder / "blobs/sha256" / _hex(blob)

    def _kept(self, blob: Digest) -> Path:
        return self.shared / _hex(blob)


def _hex(blob: Digest) -> str:
    if not digest.is_digest(blob):
        raise InputError(f"{str(blob)[:80]!r} is no digest", expected="sha256: and 64 hexadecimal digits")
    return digest.hex_of(blob)


def _link(source: Path, name: Path) -> None:
    """A second name, or a copy on a file system that knows no second names. Raises FileNotFoundError, FileExistsError."""
    try:
        os.link(source, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with files.aside(name) as fresh:
            shutil.copyfile(source, fresh)
