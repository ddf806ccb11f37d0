"""Sending: for each blob the smallest of what can be sent for it; the whole of it again where that did not work out."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs

from edgepack import bundle, digest, store
from edgepack.actions import Content, FromLock, Provider
from edgepack.delivery import link
from edgepack.delivery.delta import bases
from edgepack.delivery.delta.decide import UNKNOWN_RATE
from edgepack.delivery.delta.making import Blob, Payload, Workshop
from edgepack.delivery.runtimes import Locks, Opener
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, TrustError
from edgepack.ports import Progress
from edgepack.profile import RuntimeName
from edgepack.protocol import BlobPart, BlobState, Facts, FactsRequest, InstalledRelease
from edgepack.remote import Outgoing, Session
from edgepack.target import Target

if TYPE_CHECKING:
    from edgepack.bundle import Bundle

_FACTS_SECONDS = 60.0
_TINY = 1 << 10
"""Bytes of a blob that is not worth a thought."""


@dataclass(frozen=True)
class Shipment:
    """What a plan says that a board lacks. facts: the board's, with what has begun to arrive there"""

    target: Target
    bundle: Bundle
    content: Content
    parts: tuple[BlobPart, ...]
    providers: dict[RuntimeName, Provider]
    facts: Facts
    locks: Locks
    workshop: Workshop
    progress: Progress


@dataclass(frozen=True)
class Sent:
    """bytes: over the link; notes: what was sent instead of whole files, and what did not work out"""

    bytes: int
    notes: tuple[str, ...] = ()


def send(session: Session, shipment: Shipment) -> Sent:
    """Bring every part to the board. Raises TrustError where what arrives there is wrong also as a whole, BoardError."""
    openers = _openers(shipment)
    blobs = {part.digest: Blob(Digest(part.digest), part.size, openers[part.digest]) for part in shipment.parts}
    chosen = _choose(shipment, blobs)
    outgoing = [
        _outgoing(part, chosen.get(part.digest), blobs[part.digest], shipment.facts.blobs) for part in shipment.parts
    ]
    before, start = session.bytes_sent, time.monotonic()
    notes = _said(shipment, chosen)
    try:
        session.send_blobs(outgoing, shipment.progress)
        link.measured(shipment.target, session.bytes_sent - before, time.monotonic() - start)
    except TrustError as error:
        if not any(one.part.offset or one.part.makes for one in outgoing):
            raise
        # a delta did not help, or what an earlier try left there is torn: a power cut can leave its length without its bytes
        what = f"{error.what}: sending all of it again"
        shipment.progress.warn(what)
        for payload in chosen.values():
            payload.path.unlink(missing_ok=True)
        session.send_blobs(_whole(session, shipment, blobs), shipment.progress)
        notes = (what,)
    return Sent(session.bytes_sent - before, notes)


def _openers(shipment: Shipment) -> dict[str, Opener]:
    openers: dict[str, Opener] = {}
    wanted = {part.digest for part in shipment.parts}
    for one in shipment.providers.values():
        if isinstance(one, FromLock) and {wheel.digest for wheel in one.lock.wheels} & wanted:
            openers |= shipment.locks.fetch(one.lock, shipment.progress)
    return openers | {blob: _opener(shipment, Digest(blob)) for blob in wanted - openers.keys()}


def _opener(shipment: Shipment, blob: Digest) -> Opener:
    if blob == shipment.content.manifest_digest:
        return lambda: io.BytesIO(shipment.bundle.manifest_bytes)
    return lambda: shipment.bundle.open_blob(blob)


def _choose(shipment: Shipment, blobs: dict[str, Blob]) -> dict[str, Payload]:
    """For the blobs that are better not sent whole what is sent for them: what has begun to arrive, else the smallest."""
    begun = {state.digest for state in shipment.facts.blobs if not state.complete and state.bytes}
    rate = link.rate(shipment.target, UNKNOWN_RATE)
    olds: dict[str, Blob] | None = None
    chosen: dict[str, Payload] = {}
    for part in shipment.parts:
        if part.size < _TINY:
            continue
        going = next((one for one in shipment.workshop.known(Digest(part.digest)) if one.digest in begun), None)
        if going is None:
            olds = _olds(shipment) if olds is None else olds
            left = part.size - part.offset
            with shipment.progress.step(f"comparing {part.size / 1e6:.2f} MB with what the board has"):
                going = shipment.workshop.make(
                    blobs[part.digest], olds.get(part.digest), left, rate, shipment.facts.codecs
                )
        if going is not None:
            chosen[part.digest] = going
    return chosen


def _olds(shipment: Shipment) -> dict[str, Blob]:
    """For the new blobs those of a release on the board whose bytes this host knows."""
    known = {entry.digest: entry for entry in store.entries(shipment.content.manifest.name)}
    there = bases.releases(shipment.content, shipment.facts.releases)
    for release in there:
        entry = known.get(Digest(release.digest))
        if entry is None:
            continue
        try:
            return _counterparts(shipment, bundle.open_bundle(entry.path), release)
        except EdgepackError as error:
            shipment.progress.warn(f"no deltas against {release.name} {release.version}: {error.what}")
    if there:
        shipment.progress.note(
            f"no deltas: {there[0].name} {there[0].version}, which the board has, is not in this host's store"
        )
    return {}


def _counterparts(shipment: Shipment, old: Bundle, release: InstalledRelease) -> dict[str, Blob]:
    def opener(blob: Digest) -> Opener:
        return lambda: old.open_blob(blob)

    pairs = bases.counterparts(shipment.content.manifest, old.manifest, release.variants)
    found = {str(new): Blob(before, old.size_of(before), opener(before)) for new, before in pairs.items()}
    manifest = old.manifest_bytes
    own = Blob(digest.of_bytes(manifest), len(manifest), lambda: io.BytesIO(manifest))
    return found | {str(shipment.content.manifest_digest): own}


def _outgoing(part: BlobPart, payload: Payload | None, blob: Blob, states: Sequence[BlobState]) -> Outgoing:
    if payload is None:
        return Outgoing(part, blob.open)
    have = next((state.bytes for state in states if state.digest == payload.digest), 0)
    offset = have if have <= payload.size else 0
    return Outgoing(BlobPart(payload.digest, payload.size, offset, part.digest, part.size), payload.open)


def _whole(session: Session, shipment: Shipment, blobs: dict[str, Blob]) -> list[Outgoing]:
    asked = FactsRequest(blobs=tuple(part.digest for part in shipment.parts))
    states = session.call("facts", asked, Facts, _FACTS_SECONDS).blobs
    done = {state.digest for state in states if state.complete}
    return [
        Outgoing(structs.replace(part, offset=0), blobs[part.digest].open)
        for part in shipment.parts
        if part.digest not in done
    ]


def _said(shipment: Shipment, chosen: dict[str, Payload]) -> tuple[str, ...]:
    if not chosen:
        return ()
    whole = sum(part.size for part in shipment.parts if part.digest in chosen)
    sent = sum(payload.size for payload in chosen.values())
    kind = "deltas" if any(payload.base for payload in chosen.values()) else "packed"
    return (f"{kind}: {sent / 1e6:.2f} MB instead of {whole / 1e6:.2f}",)
