"""A push to a real SSH server: installs, tests in the real runtime, switches, and knows when there is nothing to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from edgepack import boards, delivery
from edgepack.bundle import Bundle
from edgepack.cli.progress import Plain
from edgepack.delivery import PushResult
from edgepack.errors import TrustError
from edgepack.lock import RuntimeLock
from edgepack.profile import RuntimeRange
from edgepack.remote import Session
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]


def push(bundle: Bundle, target: Target, *, downgrade: bool = False, **options: object) -> PushResult:
    (result,) = delivery.push(bundle, [target], allow_unsigned=True, downgrade=downgrade, progress=Plain(), **options)
    return result


def active(root: Path, name: str = "sum") -> str:
    link = root / "current" / name
    return f"sha256:{link.resolve().name}" if link.is_symlink() else ""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_a_release_is_active_and_the_second_push_changes_nothing(
    make_bundle: MakeBundle, board: Target, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle()
    first = push(bundle, board)
    assert (first.outcome, first.exit_code) == ("activated", 0), first
    assert first.bytes_sent > bundle.manifest.variants[0].size
    assert active(root) == bundle.digest == first.release
    model = bundle.open_blob(bundle.manifest.variants[0].digest).read()
    assert (root / "current/sum" / bundle.manifest.default).read_bytes() == model
    asked: list[str] = []
    call = Session.call
    monkeypatch.setattr(
        Session, "call", lambda self, verb, *rest, **more: asked.append(verb) or call(self, verb, *rest, **more)
    )
    second = push(bundle, board)
    assert (second.outcome, second.bytes_sent) == ("unchanged", 0) and "already active" in second.reason
    assert asked == ["facts"], "one question is all that it costs; test_round_trips counts what that is on the wire"


def test_an_application_opens_the_release(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    push(make_bundle(bias=2.0), board)
    (runtime,) = (root / "runtimes").iterdir()
    code = "import sys; sys.path.insert(0, sys.argv[1]); from run import load; print(load()([[1.0, 2, 3, 4]]).tolist())"
    done = subprocess.run(
        [runtime / "bin/python3", "-c", code, root / "current/sum"], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [[12.0, 12.0, 12.0]]


def test_an_update_sends_only_what_is_new_and_keeps_two_releases(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    one, two, three = (make_bundle(f"1.{n}.0", bias=float(n), padding=50_000) for n in range(3))
    push(one, board)
    wheels = (root / "runtimes").iterdir()
    assert len(list(wheels)) == 1
    second = push(two, board)
    assert (second.outcome, second.previous) == ("activated", one.digest)
    golden, manifest = two.manifest.variants[0].golden_size, len(two.manifest_bytes)
    assert second.bytes_sent == two.manifest.variants[0].size + golden + manifest, "the runtime was sent again"
    push(three, board)
    assert names(root / "releases/sum") == {b.digest.removeprefix("sha256:") for b in (two, three)}


def test_another_variant_can_be_installed_beside_the_active_one(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    bundle = make_bundle()
    push(bundle, board)
    other = bundle.manifest.variants[1].id
    result = push(bundle, board, variants=(other,))
    assert result.outcome == "unchanged" and result.bytes_sent > 0 and other in result.reason
    assert (root / "current/sum" / other).is_file()
    assert push(bundle, board, variants=(other,)).bytes_sent == 0


def test_a_dry_run_says_what_it_would_do_and_does_nothing(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    result = push(make_bundle(), board, dry_run=True)
    assert (result.outcome, result.exit_code) == ("planned", 0)
    assert "send" in result.reason and "activate" in result.reason
    assert names(root) == {"agent"}


def test_a_failing_health_command_brings_the_release_before_back(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    one, two = make_bundle("1.0.0"), make_bundle("1.1.0", bias=2.0)
    push(one, board)
    healthy_only_before = f'test "$(basename $(readlink "$EDGEPACK_RELEASE"))" = {one.digest.removeprefix("sha256:")}'
    sick = structs.replace(board, health=healthy_only_before, restart="echo restarted >> ~/restarts")
    result = push(two, sick)
    assert (result.outcome, result.exit_code) == ("rolled-back", 4)
    assert "health" in result.reason and active(root) == one.digest
    assert (root.parent / "restarts").read_text().count("restarted") == 2, "the application was not restarted both ways"
    assert push(two, structs.replace(board, health="true")).outcome == "activated"


def test_a_first_release_that_is_not_healthy_leaves_none(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    result = push(make_bundle(), structs.replace(board, health="sleep 60; true", restart="exit 3"))
    assert result.outcome == "rolled-back" and "restart" in result.reason
    assert active(root) == ""


def test_wrong_answers_are_never_activated(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    good, wrong = make_bundle("1.0.0"), make_bundle("1.1.0", bias=2.0, golden_error=0.5)
    push(good, board)
    result = push(wrong, board)
    assert (result.outcome, result.exit_code) == ("failed", 4) and "off by 0.5" in result.reason
    assert active(root) == good.digest


def test_nan_is_never_activated(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    result = push(make_bundle(bias=float("nan")), board)
    assert (result.outcome, result.exit_code) == ("failed", 4) and "NaN" in result.reason
    assert active(root) == ""


def test_a_lower_version_is_refused_and_goes_with_downgrade(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    old, new = make_bundle("1.9.0"), make_bundle("1.10.0", bias=2.0)
    push(new, board)
    refused = push(old, board)
    assert refused.exit_code == 4 and "1.9.0" in refused.reason and "1.10.0" in refused.reason
    assert push(old, board, downgrade=True).outcome == "activated"
    assert active(root) == old.digest
    assert push(old, board).outcome == "unchanged"


def test_an_unsigned_bundle_needs_permission(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    (result,) = delivery.push(make_bundle(), [board], allow_unsigned=False, downgrade=False, progress=Plain())
    assert result.exit_code == 6 and "--allow-unsigned" in result.reason
    assert not root.exists(), "the board was touched"


def test_a_bundle_for_another_profile_is_refused(make_bundle: MakeBundle, board: Target) -> None:
    result = push(make_bundle(profile="rpi4"), board)
    assert result.exit_code == 3 and "rpi4" in result.reason and board.profile in result.reason


def test_a_changed_bundle_is_refused_before_any_board_is_asked(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    bundle = make_bundle(padding=4096)
    data = bytearray(bundle.path.read_bytes())
    model = bundle.open_blob(bundle.manifest.variants[0].digest).read()
    data[data.index(model) + 200] ^= 1
    bundle.path.write_bytes(data)
    with pytest.raises(TrustError):
        push(bundle, board)
    assert not root.exists()


def test_a_file_that_changed_on_the_board_is_found_and_healed(
    make_bundle: MakeBundle, board: Target, root: Path
) -> None:
    bundle = make_bundle(padding=4096)
    push(bundle, board)
    model = root / "current/sum" / bundle.manifest.default
    model.chmod(0o644)
    data = bytearray(model.read_bytes())
    data[-1] ^= 1
    model.write_bytes(data)
    (state,) = delivery.status([board], Plain())
    assert state.releases[0].verified is False and state.exit_code == 6
    assert push(bundle, board).exit_code == 0
    (state,) = delivery.status([board], Plain())
    assert state.releases[0].verified is True and state.exit_code == 0


def test_a_lost_runtime_is_set_up_again(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    bundle = make_bundle()
    push(bundle, board)
    (runtime,) = (root / "runtimes").iterdir()
    (runtime / "bin/python3").unlink()
    result = push(bundle, board)
    assert result.exit_code == 0 and "set up" in result.reason
    assert (runtime / "bin/python3").exists()


def test_status_and_rollback(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    one, two = make_bundle("1.0.0"), make_bundle("1.1.0", bias=2.0)
    push(one, board)
    push(two, board)
    (back,) = delivery.rollback([board], "sum", Plain())
    assert (back.outcome, back.release, back.left) == ("rolled-back", one.digest, two.digest)
    (state,) = delivery.status([board], Plain())
    (release,) = state.releases
    assert (release.version, release.verified, release.desired, release.kept) == ("1.0.0", True, one.digest, ("1.1.0",))
    assert state.log_intact
    (again,) = delivery.rollback([board], "sum", Plain())
    assert again.exit_code == 4 and "no release" in again.reason, "going back twice must not go forward"
    (never,) = delivery.rollback([board], "no-such-name", Plain())
    assert never.exit_code == 3 and "never ran a release of no-such-name" in never.reason
    assert active(root) == one.digest
    result = push(two, board)
    assert (result.outcome, result.bytes_sent) == ("activated", 0)


def test_what_was_wanted_is_shown_beside_what_is(make_bundle: MakeBundle, board: Target) -> None:
    one, wrong = make_bundle("1.0.0"), make_bundle("1.1.0", golden_error=9.0)
    push(one, board)
    push(wrong, board)
    (state,) = delivery.status([board], Plain())
    (release,) = state.releases
    assert (release.version, release.desired) == ("1.0.0", wrong.digest)


def test_one_board_that_fails_stops_no_other(make_bundle: MakeBundle, test_home: Path, progress: Plain) -> None:
    several = boards.up("many", "loopback", "", 3, progress)
    try:
        gone = structs.replace(several[1], port=1)
        results = delivery.push(
            make_bundle(), [several[0], gone, several[2]], allow_unsigned=True, downgrade=False, progress=progress
        )
        assert [r.outcome for r in results] == ["activated", "failed", "activated"]
        assert [r.exit_code for r in results] == [0, 5, 0]
    finally:
        boards.down("many", progress)


def test_another_variant_is_chosen_aloud_where_the_default_cannot_run(
    make_bundle: MakeBundle, board: Target, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runtimes = {"litert": RuntimeRange(">=2.1,<3", "system"), "onnxruntime": RuntimeRange(">=1.19,<2")}
    bundle = make_bundle(default_runtime="litert", runtimes=runtimes)
    result = push(bundle, board)
    other = bundle.manifest.variants[1].id
    assert (result.outcome, result.variant) == ("activated", other)
    said = capfd.readouterr().err
    assert "warning" in said and other in said and "litert" in said
    assert not (root / "current/sum" / bundle.manifest.default).exists()


def test_a_board_without_any_runtime_is_told_so(make_bundle: MakeBundle, board: Target) -> None:
    nowhere = make_bundle(runtimes={"onnxruntime": RuntimeRange(">=1.19,<2", "system")}, locks=())
    result = push(nowhere, board)
    assert result.exit_code == 3 and "no onnxruntime" in result.reason


def test_a_platform_without_wheels_says_so(make_bundle: MakeBundle, board: Target, lock: RuntimeLock) -> None:
    lost = structs.replace(
        lock.wheels[0], digest="sha256:" + "0" * 64, filename="lost-1.0-py3-none-any.whl", name="lost"
    )
    bundle = make_bundle(locks=(structs.replace(lock, wheels=(lost,)),))
    result = push(bundle, board)
    assert result.exit_code in (5, 6) and "lost" in result.reason


@contextmanager
def small_disk(root: Path, size: int) -> Iterator[None]:
    """A tmpfs of `size` bytes at `root`."""
    root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", root], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", root], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_refused_before_the_first_byte(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    with small_disk(root, 9 << 20):
        result = push(make_bundle(padding=2 << 20), board)
        assert result.exit_code == 5 and "space" in result.reason
        assert not names(root / "blobs/partial") and not names(root / "blobs/sha256")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_too_small_for_the_agent_is_named(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    with small_disk(root, 4096 * 4):
        result = push(make_bundle(), board)
        assert result.exit_code == 5 and "agent" in result.reason and "space" in result.reason.lower()


def test_a_dead_python_in_the_runtime_is_a_failed_import(
    make_bundle: MakeBundle, board: Target, root: Path, lock: RuntimeLock, test_home: Path
) -> None:
    import zipfile

    from edgepack import digest

    wheel = test_home / "broken-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("numpy/__init__.py", "")
        archive.writestr("onnxruntime/__init__.py", "import os; os.kill(os.getpid(), 4)\n")
    data = wheel.read_bytes()
    kept = test_home / "wheels/sha256" / digest.hex_of(digest.of_bytes(data)) / wheel.name
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(data)
    entry = structs.replace(
        lock.wheels[0], name="broken", filename=wheel.name, digest=digest.of_bytes(data), size=len(data)
    )
    result = push(make_bundle(locks=(structs.replace(lock, wheels=(entry,)),)), board)
    assert result.exit_code == 5 and "signal 4" in result.reason
    assert not names(root / "runtimes") and active(root) == ""


@pytest.mark.network
def test_wheels_are_found_for_a_board_that_no_lock_fits(make_bundle: MakeBundle, board: Target, root: Path) -> None:
    result = push(make_bundle(locks=()), board)
    assert result.outcome == "activated", result
    (runtime,) = (root / "runtimes").iterdir()
    packages = runtime / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    assert (packages / "onnxruntime").is_dir() and (packages / "numpy").is_dir()
