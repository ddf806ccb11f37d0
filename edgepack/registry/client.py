"""Blobs and manifests of one repository: asked for, sent and fetched, each checked against its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Struct
from urllib3.response import BaseHTTPResponse

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import BoardError, InputError, TrustError
from edgepack.registry.transport import Transport

_IMAGE = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CHUNK = 1 << 20
_TRIES = 3
_MAX_REFERRERS = 256


class Referrer(Struct, frozen=True, rename="camel"):
    """What a registry says refers to a manifest (image-spec v1.1, a descriptor in a list of referrers)."""

    media_type: str
    digest: Digest
    size: int
    artifact_type: str = ""


class _Referrers(Struct, frozen=True, rename="camel"):
    schema_version: int = 2
    media_type: str = _INDEX
    manifests: tuple[Referrer, ...] = ()


class Registry:
    """One repository of a registry. Every method raises BoardError where the registry is unreachable or fails, TrustError
    where it refuses us, InputError where it knows no such thing."""

    def __init__(self, transport: Transport) -> None:
        self._http = transport
        self._root = f"/v2/{transport.reference.repository}"

    def manifest(self, wanted: str) -> bytes:
        """The bytes of the manifest that a tag or a digest names. Raises TrustError where they are not that digest."""
        with self._http.send("GET", f"{self._root}/manifests/{wanted}", {"Accept": _IMAGE}) as response:
            kind = response.headers.get("Content-Type", "").partition(";")[0].strip()
            if kind != _IMAGE:
                raise InputError(f"{self._where}: the registry holds there {kind[:80]!r}, no bundle", expected=_IMAGE)
            said = response.headers.get("Docker-Content-Digest", "")
            data = self._http.read(response)
        found = digest.of_bytes(data)
        for expected in (said, wanted):
            if digest.is_digest(expected) and found != expected:
                raise self._wrong_bytes("manifest", Digest(expected))
        return data

    def digest_of(self, wanted: str) -> Digest | None:
        """What a tag names now, or None. Only compared, never trusted: whoever fetches hashes."""
        with self._http.send(
            "HEAD", f"{self._root}/manifests/{wanted}", {"Accept": _IMAGE}, accept=(200, 404)
        ) as response:
            found = response.headers.get("Docker-Content-Digest", "")
            return Digest(found) if response.status == 200 and digest.is_digest(found) else None

    def put_manifest(self, data: bytes, wanted: str, kind: str = _IMAGE) -> None:
        """Store a manifest under a tag or its digest; the blobs that it names are there already."""
        headers = {"Content-Type": kind, "Content-Length": str(len(data))}
        with self._http.send(
            "PUT", f"{self._root}/manifests/{wanted}", headers, data, accept=(200, 201, 202)
        ) as response:
            said = response.headers.get("Docker-Content-Digest", "")
            if said and said != digest.of_bytes(data):
                raise self._wrong_bytes("manifest", digest.of_bytes(data))

    def has_blob(self, blob: Digest, size: int) -> bool:
        """Whether the repository holds a blob, of this many bytes."""
        with self._http.send("HEAD", f"{self._root}/blobs/{blob}", accept=(200, 404)) as response:
            return response.status == 200 and response.headers.get("Content-Length", str(size)) == str(size)

    def put_blob(self, blob: Digest, size: int, stream: BinaryIO) -> None:
        """Send a blob in one streamed request, which every registry knows; it counts only if its digest is right.

        A connection that breaks is tried again, three times in all. stream: can be sought to its start
        """
        for attempt in range(_TRIES):
            try:
                return self._put_blob(blob, size, stream)
            except BoardError:
                if attempt == _TRIES - 1:
                    raise
        return None

    def _put_blob(self, blob: Digest, size: int, stream: BinaryIO) -> None:
        with self._http.send("POST", f"{self._root}/blobs/uploads/", {"Content-Length": "0"}, accept=(202,)) as opened:
            location = opened.headers.get("Location", "")
        parts = urlsplit(self._http.resolve(f"{self._http.origin}{self._root}/blobs/uploads/", location))
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", blob)])
        url = urlunsplit(parts._replace(query=query))
        headers = {"Content-Type": "application/octet-stream"}
        with self._http.send("PUT", url, headers, stream, accept=(201, 204), length=size):
            pass

    def read_blob(self, blob: Digest, size: int, sink: BinaryIO) -> None:
        """Fetch a blob into `sink`, which is left with exactly its bytes. A connection that breaks goes on where it broke.

        Raises TrustError where the bytes are not the digest's, or more than `size`.
        """
        hashed, have = hashlib.sha256(), 0
        for attempt in range(_TRIES):
            try:
                for data in self._pieces(blob, have, size):
                    hashed.update(data)
                    sink.write(data)
                    have += len(data)
                    if have > size:
                        raise self._wrong_bytes(f"blob of {size} bytes", blob)
                if have == size:
                    break
            except BoardError:
                if attempt == _TRIES - 1:
                    raise
        if have < size:
            raise BoardError(
                f"{self._where}: the blob {blob} ended after {have} of {size} bytes", advice="fetch it again"
            )
        if hashed.hexdigest() != digest.hex_of(blob):
            raise self._wrong_bytes("blob", blob)

    def _pieces(self, blob: Digest, start: int, size: int) -> Iterator[bytes]:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._http.send("GET", f"{self._root}/blobs/{blob}", headers, accept=(200, 206)) as response:
            if start and response.status == 200:  # no ranges there: what we have is sent once more
                _skip(response, start)
            while data := response.read(_CHUNK, decode_content=False):
                yield data

    def referrers(self, subject: Digest, kind: str) -> tuple[Digest, ...]:
        """The manifests of artifact type `kind` that refer to `subject`: by the API, else by the tag that stands in for it."""
        path, query = f"{self._root}/referrers/{subject}", urlencode({"artifactType": kind})
        with self._http.send("GET", f"{path}?{query}", {"Accept": _INDEX}, accept=(200, 400, 404, 405)) as response:
            found = self._http.read(response) if response.status == 200 else self._fallback(subject)
        listed = self._listed(found).manifests if found else ()
        return tuple(dict.fromkeys(one.digest for one in listed if one.artifact_type == kind))

    def put_referrer(self, data: bytes, subject: Digest, kind: str) -> None:
        """Store a manifest whose subject is `subject`.

        A registry without the referrers API gets the list of them under a tag (distribution-spec v1.1, "Referrers Tag
        Schema"). That list is read and written: of two who sign at the same moment one may have to publish again.
        """
        own = digest.of_bytes(data)
        self.put_manifest(data, own)
        if own in self.referrers(subject, kind):
            return
        known = self._fallback(subject)
        listed = self._listed(known).manifests if known else ()
        fresh = _Referrers(manifests=(*listed, Referrer(_IMAGE, own, len(data), kind)))
        self.put_manifest(digest.canonical_json(fresh), _stand_in(subject), _INDEX)

    def _fallback(self, subject: Digest) -> bytes:
        path = f"{self._root}/manifests/{_stand_in(subject)}"
        with self._http.send("GET", path, {"Accept": _INDEX}, accept=(200, 404)) as response:
            return self._http.read(response) if response.status == 200 else b""

    def _listed(self, data: bytes) -> _Referrers:
        try:
            found = msgspec.json.decode(data, type=_Referrers)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{self._where}: the registry's list of signatures is broken: {error}") from None
        if len(found.manifests) > _MAX_REFERRERS or not all(digest.is_digest(one.digest) for one in found.manifests):
            raise InputError(f"{self._where}: the registry's list of signatures has digests that are none, or too many")
        return found

    @property
    def _where(self) -> str:
        return str(self._http.reference)

    def _wrong_bytes(self, what: str, wanted: Digest) -> TrustError:
        return TrustError(
            f"{self._where}: the registry sent other bytes than the {what} {wanted}",
            expected="a registry that gives back what was put there",
            advice="do not use it; publish the bundle again from where it was built, and ask who runs the registry",
        )


def _stand_in(subject: Digest) -> str:
    return subject.replace(":", "-")


def _skip(response: BaseHTTPResponse, count: int) -> None:
    while count > 0 and (data := response.read(min(_CHUNK, count), decode_content=False)):
        count -= len(data)
