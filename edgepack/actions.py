"""What a push has to do on a board, decided from its facts and the bundle's manifest: no clock, no disk, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from msgspec import Struct

from edgepack import admission
from edgepack.admission import Device, Evidence, Offer, Policy, Refused, Subject
from edgepack.digest import Digest, canonical_json
from edgepack.errors import EdgepackError, InputError
from edgepack.lock import Platform, RuntimeLock, version_tuple
from edgepack.manifest import Manifest, VariantRecord
from edgepack.profile import RuntimeName, RuntimeRange
from edgepack.protocol import (
    ActivateRequest,
    Assurance,
    BlobPart,
    Facts,
    InstalledRelease,
    InstallRequest,
    RuntimeRequest,
    RuntimeUse,
    WheelBlob,
)


class Content(Struct, frozen=True, kw_only=True):
    """A bundle as far as a decision needs it. digest: the bundle's; manifest_digest, manifest_size: of its manifest's bytes

    offers: the signatures that it brings, each of which holds
    """

    digest: Digest
    manifest: Manifest
    manifest_digest: Digest
    manifest_size: int
    offers: tuple[Offer, ...] = ()

    @property
    def subject(self) -> Subject:
        manifest = self.manifest
        return Subject(
            bundle=self.digest,
            manifest=self.manifest_digest,
            name=manifest.name,
            version=manifest.version,
            profile=manifest.profile.name,
        )


class Wish(Struct, frozen=True, kw_only=True):
    """What the operator wants for one target.

    profiles: names of profiles whose bundles it takes (its own and the one that it extends); machine: the profile's
    stand_in: a loopback board, whose machine is this host's whatever its profile says
    variants: to install beside the one that becomes active; who: for the board's log
    labels: the target's, in the inventory; policy: whom this host's user trusts; clock: seconds since 1970, this host's
    """

    target: str
    profiles: tuple[str, ...]
    machine: str
    stand_in: bool = False
    allow_unsigned: bool = False
    downgrade: bool = False
    variants: tuple[str, ...] = ()
    health: str = ""
    restart: str = ""
    who: str = ""
    labels: dict[str, str] = {}
    policy: Policy = Policy()
    clock: int = 0


class FromSystem(Struct, frozen=True):
    """The board's own packages provide the runtime."""

    runtime: RuntimeName
    version: str
    wanted: str


class FromLock(Struct, frozen=True):
    """Wheels provide the runtime."""

    lock: RuntimeLock


class ToResolve(Struct, frozen=True):
    """Wheels may provide it, but no lock in the bundle fits this board: one must be found."""

    runtime: RuntimeName
    wanted: RuntimeRange
    platform: Platform


class Lacking(Struct, frozen=True):
    reason: str


Provider = FromSystem | FromLock
Provision = Provider | ToResolve | Lacking


class NoOp(Struct, frozen=True):
    reason: str


class Send(Struct, frozen=True):
    """Blobs of the bundle, or wheels, that the board lacks or has only the beginning of."""

    parts: tuple[BlobPart, ...]

    def __str__(self) -> str:
        size = sum(part.size - part.offset for part in self.parts)
        return f"send {len(self.parts)} blobs, {size / 1e6:.2f} MB"


class Provide(Struct, frozen=True):
    request: RuntimeRequest

    def __str__(self) -> str:
        return f"set up {self.request.runtime} {self.request.version}"


class Install(Struct, frozen=True):
    request: InstallRequest

    def __str__(self) -> str:
        return f"install {self.request.name} {self.request.version} and run its golden samples"


class Activate(Struct, frozen=True):
    request: ActivateRequest

    def __str__(self) -> str:
        return f"activate it{' and check its health' if self.request.health else ''}"


Action = Send | Provide | Install | Activate


def blobs(content: Content) -> dict[str, int]:
    """Digest and size of every blob that a board may need of a bundle: manifest, variants, golden samples."""
    manifest = content.manifest
    models = {record.digest: record.size for record in manifest.variants}
    golden = {record.golden: record.golden_size for record in manifest.variants}
    return {str(content.manifest_digest): content.manifest_size} | {
        str(blob): size for blob, size in (models | golden).items()
    }


def check_bundle(content: Content, wish: Wish) -> None:
    """Raises TrustError for a bundle that nobody signed, unless that is allowed, or that this host's user does not trust;
    InputError for one made for another profile.
    """
    name = f"{content.manifest.name} {content.manifest.version}"
    acceptable(content, wish)
    profile = content.manifest.profile.name
    if profile not in wish.profiles:
        raise InputError(
            f"target {wish.target!r} has the profile {wish.profiles[0]}, the bundle {name} was built for {profile}",
            expected=f"a bundle for {' or '.join(wish.profiles)}",
            advice=f"edgepack build … -p {wish.profiles[0]}",
        )
    for id in wish.variants:
        content.manifest.variant(id)


def check_board(content: Content, wish: Wish, facts: Facts) -> NoOp | None:
    """Whether there is nothing to do on this board, or else whether it may be done.

    Raises InputError where the board is another machine than its profile says, GateError for a version below the highest
    that it ever ran (unless a downgrade is wished), TrustError where the board would not trust it.
    """
    if facts.machine != wish.machine and not wish.stand_in:
        raise InputError(
            f"target {wish.target!r} says it is {facts.machine}, its profile {wish.profiles[0]} is for {wish.machine}",
            expected=f"a board with {wish.machine}",
            advice="correct `profile` (or `host`) in the inventory",
        )
    name, version = content.manifest.name, content.manifest.version
    found = _installed(content, facts)
    here = found and found.active and found.confirmed and found.verified and set(wish.variants) <= set(found.variants)
    if found and here and _is_known(found, content, facts):
        return NoOp(f"{name} {version} is already active ({found.default}), its files hold")
    admitted(content, wish, facts)
    return None


def acceptable(content: Content, wish: Wish) -> tuple[Offer | None, ...]:
    """The bundle's signatures that this host's user may rely on for this target; None stands for doing without one.

    Raises TrustError where there is none. A user who trusts no key yet leaves the question to the board.
    """
    offers: tuple[Offer | None, ...] = content.offers or (None,)
    kept: list[Offer | None] = []
    refusals: list[EdgepackError] = []
    for offer in offers:
        evidence = Evidence(
            subject=content.subject,
            record=offer.record if offer else None,
            signer=offer.signer if offer else "",
            trusted=wish.policy.trusted,
            revoked=wish.policy.revoked,
            required=wish.policy.required,
            allow_unsigned=wish.allow_unsigned or (offer is not None and not wish.policy.required),
            clock=wish.clock,
            device=Device(wish.target, wish.labels),
        )
        verdict = admission.judge(evidence)
        if isinstance(verdict, Refused):
            refusals.append(admission.explain(verdict.rule, evidence, f"target {wish.target!r}"))
        else:
            kept.append(offer)
    if not kept:
        raise refusals[0]
    return tuple(kept)


def admitted(content: Content, wish: Wish, facts: Facts) -> Offer | None:
    """The signature under which the board takes the bundle, the one that it knows most of; None where it takes it without.

    Raises TrustError or GateError where the board would refuse it: it decides again, but nothing has to be sent for that.
    """
    best: dict[Assurance, Offer | None] = {}
    refusals: list[EdgepackError] = []
    for offer in acceptable(content, wish):
        evidence = _evidence(content, wish, facts, offer)
        verdict = admission.judge(evidence)
        if isinstance(verdict, Refused):
            refusals.append(admission.explain(verdict.rule, evidence, f"target {wish.target!r}"))
        else:
            best.setdefault(verdict.assurance, offer)
    if not best:
        raise refusals[0]
    return next(best[one] for one in get_args(Assurance) if one in best)


def _evidence(content: Content, wish: Wish, facts: Facts, offer: Offer | None) -> Evidence:
    board = facts.trust
    vouched = offer is not None and offer.signer in wish.policy.trusted
    return Evidence(
        subject=content.subject,
        record=offer.record if offer else None,
        signer=offer.signer if offer else "",
        trusted=board.keys,
        revoked=board.revoked,
        required=board.required,
        allow_unsigned=board.allow_unsigned and wish.allow_unsigned
        if board.required
        else wish.allow_unsigned or vouched,
        downgrade=wish.downgrade,
        highest=facts.highest.get(content.manifest.name, ""),
        clock=board.clock,
        floor=board.floor,
        device=Device(board.device, board.labels) if board.device else None,
    )


def _is_known(found: InstalledRelease, content: Content, facts: Facts) -> bool:
    """Whether the board already has this signature of what it runs, and has checked it as well as it can."""
    if not content.offers:
        return True
    same = any(offer.digest == found.record for offer in content.offers)
    return same and (found.assurance == "signed" or not facts.trust.required)


def candidates(manifest: Manifest) -> tuple[VariantRecord, ...]:
    """The variants in the order in which they are wanted on a board: the default, then by what they lose, then by size."""
    rest = [record for record in manifest.variants if record.id != manifest.default]
    rest.sort(key=lambda record: (float("inf") if record.drop is None else record.drop, record.size, record.id))
    return (manifest.variant(manifest.default), *rest)


def provision(record: VariantRecord, manifest: Manifest, locks: Sequence[RuntimeLock], facts: Facts) -> Provision:
    """How this board can get the runtime of a variant: its own packages, a lock of the bundle, or one still to be found."""
    wanted = manifest.runtimes.get(record.runtime)
    if wanted is None:
        return Lacking(f"{record.id} runs in {record.runtime}, for which the bundle names no version")
    if wanted.provider == "system":
        version = facts.system_runtimes.get(record.runtime)
        if version is None:
            return Lacking(
                f"the board's own Python has no {record.runtime} {wanted.version}, which {record.id} runs in"
            )
        if not wanted.allows(version):
            return Lacking(f"the board's own {record.runtime} is {version}, {record.id} needs {wanted.version}")
        return FromSystem(record.runtime, version, wanted.version)
    platform = facts.platform()
    fitting = [one for one in locks if one.runtime == record.runtime and one.fits(platform)]
    fitting = [one for one in fitting if wanted.allows(one.version)]
    if not fitting:
        return ToResolve(record.runtime, wanted, platform)
    # what the board has already wins over a newer one that would have to be sent
    return FromLock(max(fitting, key=lambda one: (one.digest() in facts.runtimes, version_tuple(one.version))))


def key_of(provider: Provider) -> str:
    """The name of a runtime on a board."""
    return provider.lock.digest() if isinstance(provider, FromLock) else f"system:{provider.runtime}"


def plan_push(
    content: Content, wish: Wish, facts: Facts, chosen: VariantRecord, providers: dict[RuntimeName, Provider]
) -> tuple[Action, ...]:
    """What is to be done so that `chosen` runs on the board, in order; only what is needed.

    facts: holds the state of every blob of the bundle, and of the wheels of each runtime that is not ready there
    providers: the runtime of `chosen` and of each of the wish's other variants
    """
    manifest = content.manifest
    records = [chosen, *(manifest.variant(id) for id in wish.variants if id != chosen.id)]
    wheels = [one.lock for one in providers.values() if isinstance(one, FromLock) and key_of(one) not in facts.runtimes]
    needed = {wheel.digest: wheel.size for lock in wheels for wheel in lock.wheels}
    needed |= {content.manifest_digest: content.manifest_size}
    needed |= {record.digest: record.size for record in records} | {r.golden: r.golden_size for r in records}
    sent = tuple(_missing(needed, facts))
    offer = admitted(content, wish, facts)
    before = next((one.digest for one in facts.releases if one.name == manifest.name and one.active), "")
    uses = tuple(RuntimeUse(runtime, key_of(provider)) for runtime, provider in sorted(providers.items()))
    install = InstallRequest(
        name=manifest.name,
        version=manifest.version,
        release=content.digest,
        manifest=content.manifest_digest,
        variant=chosen.id,
        variants=tuple(record.id for record in records),
        runtimes=uses,
        record=offer.signed if offer else "",
        signature=offer.signature if offer else "",
        downgrade=wish.downgrade,
        selftest_seconds=300.0,
        who=wish.who,
    )
    activate = ActivateRequest(
        name=manifest.name,
        release=content.digest,
        expected=before,
        downgrade=wish.downgrade,
        restart=wish.restart,
        health=wish.health,
        who=wish.who,
    )
    return (
        *((Send(sent),) if sent else ()),
        *(Provide(_request(one)) for one in providers.values() if _is_lacking(one, facts)),
        Install(install),
        Activate(activate),
    )


def _installed(content: Content, facts: Facts) -> InstalledRelease | None:
    name = content.manifest.name
    return next((one for one in facts.releases if (one.name, one.digest) == (name, content.digest)), None)


def _missing(needed: dict[Digest, int], facts: Facts) -> Iterator[BlobPart]:
    states = {state.digest: state for state in facts.blobs}
    for digest, size in needed.items():
        state = states.get(digest)
        if state is None or not state.complete:
            have = state.bytes if state and state.bytes <= size else 0
            yield BlobPart(digest, size, have)


def _is_lacking(provider: Provider, facts: Facts) -> bool:
    return isinstance(provider, FromSystem) or key_of(provider) not in facts.runtimes


def _request(provider: Provider) -> RuntimeRequest:
    if isinstance(provider, FromSystem):
        return RuntimeRequest(key=key_of(provider), runtime=provider.runtime, version=provider.wanted)
    lock = provider.lock
    wheels = tuple(WheelBlob(wheel.filename, wheel.digest) for wheel in lock.wheels)
    return RuntimeRequest(
        key=lock.digest(),
        runtime=lock.runtime,
        version=lock.version,
        wheels=wheels,
        system=lock.system,
        lock=canonical_json(lock).decode(),
    )
