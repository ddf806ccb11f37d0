"""Publish and fetch: only what the other side lacks, each piece checked against its digest, the tag last."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

from msgspec import Struct

from edgepack import bundle, digest, registry, store
from edgepack.bundle import Bundle, Contents, Document
from edgepack.digest import Digest
from edgepack.errors import InputError, TrustError, UsageError
from edgepack.ports import Progress
from edgepack.references import InRegistry
from edgepack.store import Entry, Staging

if TYPE_CHECKING:
    from edgepack.registry import Registry


class Published(Struct, frozen=True, kw_only=True):
    """reference: by digest, what others fetch and get exactly this; sent, had: blobs; bytes: of the blobs sent

    attestations: signed statements of its origin; unchanged: the tag named this bundle before, with all of that
    """

    reference: str
    tag: str
    digest: Digest
    sent: int
    had: int
    bytes: int
    signatures: int
    attestations: int
    unchanged: bool


class Fetched(Struct, frozen=True, kw_only=True):
    """received, had: blobs; bytes: of the blobs received"""

    reference: str
    entry: Entry
    received: int
    had: int
    bytes: int
    signatures: int
    attestations: int


def publish(source: Bundle, to: InRegistry, *, plain_http: bool = False, progress: Progress) -> Published:
    """Put a bundle into a registry: its blobs, then its manifest under the tag, then what is said of it (signatures, its
    origin) as referrers.

    What is there already is not sent again, so a run that was cut off goes on where it was. Raises BoardError where the
    registry is unreachable, TrustError where it refuses us or a blob of the bundle is not its digest.
    """
    if to.digest and to.digest != source.digest:
        raise UsageError(f"the bundle is {source.digest}, not {to.digest}", advice="name a tag only")
    pieces = bundle.contents(source)
    referring = ((bundle.SIGNATURE, pieces.signatures), (bundle.ATTESTATION, pieces.attestations))
    sent: dict[Digest, int] = {}
    with registry.connect(to, plain_http=plain_http, writing=True) as there:
        before = there.digest_of(to.wanted)
        every = {blob: size for one in (pieces.image, *pieces.referrers) for blob, size in one.blobs.items()}
        for blob, size in progress.track(every.items(), f"publish to {to}", len(every)):
            if not there.has_blob(blob, size):
                with source.open_blob(blob) as stream:
                    there.put_blob(blob, size, stream)
                sent[blob] = size
        if before != source.digest:
            there.put_manifest(pieces.image.data, to.wanted)
        fresh = 0
        for kind, documents in referring:
            known = set(there.referrers(source.digest, kind)) if documents else set()
            for one in (one for one in documents if one.digest not in known):
                there.put_referrer(one.data, source.digest, kind)
                fresh += 1
    return Published(
        reference=f"{to.host}/{to.repository}@{source.digest}",
        tag=to.tag,
        digest=source.digest,
        sent=len(sent),
        had=len(every) - len(sent),
        bytes=sum(sent.values()),
        signatures=len(pieces.signatures),
        attestations=len(pieces.attestations),
        unchanged=before == source.digest and not fresh and not sent,
    )


def fetch(of: InRegistry, *, plain_http: bool = False, progress: Progress) -> Fetched:
    """Bring a bundle from a registry into the store, with the signatures and the statements of origin that the registry
    holds for it.

    Raises TrustError where a byte is not what its digest says, InputError where it is no bundle, or one that is too large.
    """
    with registry.connect(of, plain_http=plain_http) as there, store.stage() as staging:
        data = there.manifest(of.tag or of.wanted)
        if of.digest and digest.of_bytes(data) != of.digest:
            raise TrustError(
                f"{of}: the tag {of.tag} names {digest.of_bytes(data)}",
                expected=of.digest,
                advice="the tag was moved: name the digest alone, or ask who moved it",
            )
        image = bundle.read_image(data, str(of))
        signatures, attestations = (
            _referrers(there, image.digest, kind, of, progress) for kind in (bundle.SIGNATURE, bundle.ATTESTATION)
        )
        pieces = Contents(image, signatures, bundle.version_of(data), attestations)
        received = _receive(there, staging, pieces, of, progress)
        entry = store.keep(staging, pieces, f"fetch {of}")
    blobs = pieces.blobs()
    return Fetched(
        reference=f"{of.host}/{of.repository}@{image.digest}",
        entry=entry,
        received=len(received),
        had=len(blobs) - len(received),
        bytes=sum(received.values()),
        signatures=len(signatures),
        attestations=len(attestations),
    )


def _referrers(there: Registry, subject: Digest, kind: str, of: InRegistry, progress: Progress) -> tuple[Document, ...]:
    """Anybody who may push may attach something: what does not refer to this bundle is left there, and said."""
    found = []
    for one in there.referrers(subject, kind)[: bundle.MAX_REFERRERS]:
        try:
            found.append(bundle.read_referrer(there.manifest(one), kind, subject, f"{of}: referrer {one}"))
        except InputError as error:
            progress.warn(f"one of its referrers is left out: {error.what}")
    return tuple(found)


def _receive(
    there: Registry, staging: Staging, pieces: Contents, of: InRegistry, progress: Progress
) -> dict[Digest, int]:
    own = {one.digest: one.data for one in (pieces.image, *pieces.referrers)}
    missing = {blob: size for blob, size in pieces.blobs().items() if not staging.have(blob, size)}
    free = shutil.disk_usage(staging.folder).free
    if sum(missing.values()) > free:
        raise InputError(
            f"{of}: it needs {sum(missing.values())} bytes, the store's disk has {free} left",
            advice="free space, for example with edgepack gc --keep 2",
        )
    for blob, size in progress.track(missing.items(), f"fetch {of}", len(missing)):
        if blob in own:
            staging.put(blob, size, io.BytesIO(own[blob]))
        else:
            with staging.receive(blob) as sink:
                there.read_blob(blob, size, sink)
    return missing
