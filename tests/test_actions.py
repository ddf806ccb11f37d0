"""What a push has to do, decided from facts alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from edgepack import actions, digest
from edgepack.actions import (
    Activate,
    Content,
    FromLock,
    FromSystem,
    Install,
    Lacking,
    NoOp,
    Provide,
    Send,
    ToResolve,
    Wish,
)
from edgepack.admission import Offer
from edgepack.errors import GateError, InputError, TrustError
from edgepack.lock import RuntimeLock, Wheel
from edgepack.manifest import SCHEMA, Manifest, ProfileRecord, Provenance, SourceRecord, VariantRecord
from edgepack.model import Signature
from edgepack.profile import Budget, RuntimeRange
from edgepack.protocol import BlobState, Facts, InstalledRelease
from edgepack.record import ReleaseRecord
from edgepack.variant import Parity


def _digest(text: str) -> digest.Digest:
    return digest.of_bytes(text.encode())


def variant(id: str, runtime: Any, drop: float | None = 0.0, size: int = 100) -> VariantRecord:
    return VariantRecord(
        id=id, format="onnx", runtime=runtime, precision="fp32", sparsity=0.0, digest=_digest(id), size=size, score=1.0,
        drop=drop, parity=Parity(0, 0, 99), recipe=(), golden=_digest("golden" + id), golden_size=10, tolerance=(0.1,),
    )  # fmt: skip


def lock(runtime: Any = "litert", version: str = "2.1.0", needs: str = "2.28", python: str = "3.11") -> RuntimeLock:
    wheel = Wheel(runtime, version, f"{runtime}.whl", _digest(f"{runtime}{version}{python}"), 1000)
    return RuntimeLock(
        runtime=runtime, version=version, python=python, machine="aarch64", libc="glibc", needs_glibc=needs, wheels=(wheel,)
    )  # fmt: skip


LITERT, ONNX = variant("a.tflite", "litert"), variant("b.onnx", "onnxruntime", 0.01)


def content(version: str = "1.1.0", variants: tuple[VariantRecord, ...] = (LITERT, ONNX), **changes: Any) -> Content:
    manifest = Manifest(
        schema=SCHEMA, name="kws", version=version, created="2026-01-01T00:00:00Z",
        profile=ProfileRecord("rpi4", _digest("profile")), source=SourceRecord("onnx", _digest("source"), ()),
        signature=Signature((), ()), preprocessing=None, labels=(), metric="top1", baseline=1.0, variants=variants,
        default=variants[0].id, runtimes={"litert": RuntimeRange(">=2.1,<3"), "onnxruntime": RuntimeRange(">=1.19,<2")},
        locks=(), gates=Budget(), provenance=Provenance(_digest("plan"), None, None, None, ()),
    )  # fmt: skip
    manifest = structs.replace(manifest, **changes)
    return Content(
        digest=_digest(version), manifest=manifest, manifest_digest=_digest("m" + version), manifest_size=500
    )


def facts(**changes: Any) -> Facts:
    plain = Facts(
        protocol=1, hostname="pi", machine="aarch64", bits=64, python="3.11.2", implementation="CPython", libc="glibc",
        libc_version="2.36", os="Debian", kernel="6", cpu_model="a72", cores=4, memory_kb=1, disk_free=1, filesystem="ext4",
    )  # fmt: skip
    return structs.replace(plain, **changes)


def wish(**changes: Any) -> Wish:
    return structs.replace(
        Wish(target="pi", profiles=("rpi4", "linux-aarch64"), machine="aarch64", allow_unsigned=True), **changes
    )


def installed(version: str = "1.1.0", **changes: Any) -> InstalledRelease:
    plain = InstalledRelease(
        name="kws", version=version, digest=_digest(version), active=True, confirmed=True, verified=True,
        default="a.tflite", variants=("a.tflite",),
    )  # fmt: skip
    return structs.replace(plain, **changes)


def offer(content: Content, signer: str = "SHA256:k", **changes: Any) -> Offer:
    record = ReleaseRecord(
        bundle=content.digest, manifest=content.manifest_digest, name="kws", version=content.manifest.version, profile="rpi4",
        issued="2026-01-01T00:00:00Z",
    )  # fmt: skip
    record = structs.replace(record, **changes)
    return Offer(record=record, signed=record.encode().decode(), signature="…", signer=signer)


def test_an_active_release_whose_files_hold_is_a_no_op_with_a_reason() -> None:
    found = actions.check_board(content(), wish(), facts(releases=(installed(),), highest={"kws": "9.0.0"}))
    assert isinstance(found, NoOp) and "already active" in found.reason


@pytest.mark.parametrize(
    "change",
    [{"active": False}, {"confirmed": False}, {"verified": False}, {"digest": "sha256:other"}, {"name": "other"}],
)
def test_anything_less_is_not(change: dict[str, Any]) -> None:
    assert actions.check_board(content(), wish(), facts(releases=(installed(**change),))) is None


def test_a_variant_that_is_wanted_too_is_not() -> None:
    assert actions.check_board(content(), wish(variants=("b.onnx",)), facts(releases=(installed(),))) is None


@pytest.mark.parametrize(("highest", "version", "refused"), [
    ("1.10.0", "1.9.0", True), ("1.9.0", "1.10.0", False), ("1.1.0", "1.1.0", False), ("1.1.0", "1.1.0-rc.1", True),
    ("", "0.0.1", False),
])  # fmt: skip
def test_a_version_below_the_highest_is_refused(highest: str, version: str, refused: bool) -> None:
    now = facts(highest={"kws": highest} if highest else {})
    if not refused:
        assert actions.check_board(content(version), wish(), now) is None
        return
    with pytest.raises(GateError) as caught:
        actions.check_board(content(version), wish(), now)
    assert highest in caught.value.what and version in caught.value.what
    assert actions.check_board(content(version), wish(downgrade=True), now) is None


def test_another_machine_is_refused_but_for_a_stand_in() -> None:
    with pytest.raises(InputError, match="x86_64"):
        actions.check_board(content(), wish(), facts(machine="x86_64"))
    assert actions.check_board(content(), wish(stand_in=True), facts(machine="x86_64")) is None


def test_what_may_be_pushed_to_whom() -> None:
    actions.check_bundle(content(), wish())
    with pytest.raises(TrustError, match="not signed"):
        actions.check_bundle(content(), wish(allow_unsigned=False))
    actions.check_bundle(structs.replace(content(), offers=(offer(content()),)), wish(allow_unsigned=False))
    with pytest.raises(InputError, match="rpi4"):
        actions.check_bundle(content(), wish(profiles=("rpi5",)))
    actions.check_bundle(content(), wish(profiles=("mine", "rpi4")))
    with pytest.raises(InputError, match="no variant"):
        actions.check_bundle(content(), wish(variants=("c",)))


def test_variants_are_wanted_by_default_then_drop_then_size() -> None:
    default, worse = variant("z", "litert", 0.5), variant("w", "litert", 0.2, 1)
    small, large, unknown = (
        variant("s", "litert", 0.1, 10),
        variant("l", "litert", 0.1, 20),
        variant("u", "litert", None),
    )
    found = actions.candidates(content(variants=(default, worse, unknown, large, small)).manifest)
    assert [record.id for record in found] == ["z", "s", "l", "w", "u"]


def test_the_lock_is_the_one_that_fits_the_board() -> None:
    locks = (lock(version="2.2.0", needs="2.40"), lock(version="2.1.0"), lock(version="3.1.0"), lock(python="3.13"))
    assert actions.provision(LITERT, content().manifest, locks, facts()) == FromLock(locks[1])
    found = actions.provision(LITERT, content().manifest, locks, facts(libc="musl"))
    assert isinstance(found, ToResolve) and found.platform.libc == "musl"


def test_what_the_board_has_wins_over_what_is_newer() -> None:
    old, new = lock(version="2.1.0"), lock(version="2.2.0")
    assert actions.provision(LITERT, content().manifest, (old, new), facts()) == FromLock(new)
    assert actions.provision(LITERT, content().manifest, (old, new), facts(runtimes=(old.digest(),))) == FromLock(old)


def test_a_system_s_runtime_must_be_in_range() -> None:
    manifest = content(runtimes={"litert": RuntimeRange(">=2.1,<3", "system")}).manifest
    assert isinstance(actions.provision(LITERT, manifest, (lock(),), facts()), Lacking)
    assert isinstance(actions.provision(LITERT, manifest, (), facts(system_runtimes={"litert": "1.4"})), Lacking)
    assert actions.provision(LITERT, manifest, (), facts(system_runtimes={"litert": "2.4"})) == FromSystem(
        "litert", "2.4", ">=2.1,<3"
    )
    assert isinstance(actions.provision(ONNX, manifest, (), facts()), Lacking)


def test_a_first_push_sends_sets_up_installs_and_activates() -> None:
    one = lock()
    send, provide, install, activate = actions.plan_push(
        content(), wish(who="me"), facts(), LITERT, {"litert": FromLock(one)}
    )
    assert isinstance(send, Send) and isinstance(provide, Provide) and isinstance(install, Install)
    assert {part.digest for part in send.parts} == {
        one.wheels[0].digest,
        content().manifest_digest,
        LITERT.digest,
        LITERT.golden,
    }
    assert provide.request.key == install.request.runtimes[0].key == one.digest()
    assert isinstance(activate, Activate) and activate.request.expected == "" and activate.request.who == "me"


def test_an_update_expects_what_is_active_now() -> None:
    plan = actions.plan_push(
        content(), wish(), facts(releases=(installed("1.0.0"),)), LITERT, {"litert": FromLock(lock())}
    )
    assert isinstance(plan[-1], Activate) and plan[-1].request.expected == _digest("1.0.0")


@given(st.dictionaries(st.sampled_from(["wheel", "manifest", "model", "golden"]), st.integers(0, 2000)), st.booleans())
def test_exactly_what_is_missing_is_sent(present: dict[str, int], ready: bool) -> None:
    one = lock()
    sizes = {
        "wheel": (one.wheels[0].digest, 1000), "manifest": (content().manifest_digest, 500),
        "model": (LITERT.digest, 100), "golden": (LITERT.golden, 10),
    }  # fmt: skip
    states = tuple(BlobState(sizes[name][0], size, size == sizes[name][1]) for name, size in present.items())
    now = facts(blobs=states, runtimes=(one.digest(),) if ready else ())
    plan = actions.plan_push(content(), wish(), now, LITERT, {"litert": FromLock(one)})
    parts = {part.digest: part for action in plan if isinstance(action, Send) for part in action.parts}
    for name, (blob, size) in sizes.items():
        wanted = present.get(name) != size and not (name == "wheel" and ready)
        assert (blob in parts) is wanted
        if wanted:
            assert parts[blob].size == size and parts[blob].offset == (
                present.get(name, 0) if present.get(name, 0) <= size else 0
            )
    assert any(isinstance(action, Provide) for action in plan) is not ready


def test_plans_are_values_that_can_be_written_down() -> None:
    plan = actions.plan_push(content(), wish(), facts(), LITERT, {"litert": FromLock(lock())})
    assert msgspec.json.decode(msgspec.json.encode(plan))
    assert all(str(action) for action in plan)
