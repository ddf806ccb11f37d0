"""A fleet update on real boards: canaries first, measured, and back at the first doubt."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edgepack import boards, campaign, delivery
from edgepack.bundle import Bundle
from edgepack.campaign import FleetResult, Settings, fleet_update
from edgepack.cli.progress import Plain
from edgepack.errors import InputError, UsageError
from edgepack.report import BenchProtocol, Report, RuntimeRef
from edgepack.target import Target

pytestmark = [pytest.mark.frameworks, pytest.mark.board]
MakeBundle = Callable[..., Bundle]
Fleet = tuple[Target, ...]
QUICK = BenchProtocol(processes=2, warmup=3, samples=25, most_samples=2000, warm_seconds=0.05, least_seconds=0.1)
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def fleet(test_home: Path, progress: Plain, request: pytest.FixtureRequest) -> Iterator[Fleet]:
    """Two empty boards, the first of them a canary; a third with `@pytest.mark.parametrize("fleet", [3], indirect=True)`."""
    name = "f-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[5:35].strip("-")
    found = boards.up(name, "loopback", "", getattr(request, "param", 2), progress)
    yield (msgspec.structs.replace(found[0], labels={"ring": "canary"}), *found[1:])
    boards.down(name, progress)


def update(bundle: Bundle, fleet: Fleet, **settings: object) -> FleetResult:
    chosen = Settings(**{"margin": 1.0, "protocol": QUICK, "allow_unsigned": True, "batch": 1, **settings})  # type: ignore[arg-type]
    return fleet_update(bundle, fleet, "ring=canary", chosen, Plain())


def outcomes(result: FleetResult) -> list[tuple[int, str]]:
    return [(row.wave, row.outcome) for row in result.rows]


def active(fleet: Fleet) -> list[str]:
    states = delivery.status(fleet, Plain())
    return [state.releases[0].version if state.releases else "" for state in states]


@pytest.mark.parametrize("fleet", [3], indirect=True)
def test_a_fleet_goes_from_nothing_to_a_release_to_the_next(make_bundle: MakeBundle, fleet: Fleet) -> None:
    first = update(make_bundle("1.0.0", work=200), fleet)
    assert outcomes(first) == [(0, "activated"), (1, "activated"), (2, "activated")]
    assert (first.stopped, first.exit_code) == ("", 0)
    assert "no release before" in first.remarks[0]
    assert first.rows[0].after_ns and first.rows[0].before_ns is None

    second = update(make_bundle("1.1.0", work=201), fleet)
    assert outcomes(second) == [(0, "activated"), (1, "activated"), (2, "activated")]
    canary = second.rows[0]
    assert canary.before_ns and canary.after_ns
    assert "×" in canary.change and "suspect: a loopback board" in canary.change
    assert active(fleet) == ["1.1.0"] * 3


def test_a_slower_canary_goes_back_and_nothing_else_is_touched(make_bundle: MakeBundle, fleet: Fleet) -> None:
    old = make_bundle("1.0.0", work=100)
    update(old, fleet)
    slower = update(make_bundle("2.0.0", work=500), fleet, margin=0.5)
    assert outcomes(slower) == [(0, "rolled-back"), (1, "skipped")]
    assert "got slower" in slower.stopped
    assert slower.exit_code == 4
    assert slower.rows[0].release == old.digest
    assert active(fleet) == ["1.0.0"] * 2


def test_an_interrupted_update_goes_on_and_still_compares(make_bundle: MakeBundle, fleet: Fleet) -> None:
    """The first run ended after the canary's push: the second finds the release before on the board itself."""
    update(make_bundle("1.0.0", work=100), fleet)
    slow = make_bundle("2.0.0", work=500)
    delivery.push(slow, fleet[:1], allow_unsigned=True, downgrade=False, progress=Plain())
    stopped = update(slow, fleet, margin=0.5)
    assert outcomes(stopped) == [(0, "rolled-back"), (1, "skipped")]
    assert stopped.rows[0].before_ns and stopped.rows[0].after_ns
    assert stopped.rows[0].after_ns > 2 * stopped.rows[0].before_ns


def test_a_canary_that_fails_its_self_test_stops_the_rest(make_bundle: MakeBundle, fleet: Fleet) -> None:
    update(make_bundle("1.0.0"), fleet)
    result = update(make_bundle("1.1.0", golden_error=1.0), fleet)
    assert outcomes(result) == [(0, "failed"), (1, "skipped")]
    assert "self-test" in result.stopped
    assert result.exit_code >= 4
    assert active(fleet) == ["1.0.0"] * 2


def test_a_canary_that_cannot_be_reached_stops_the_rest(make_bundle: MakeBundle, fleet: Fleet) -> None:
    gone = (msgspec.structs.replace(fleet[0], port=1), *fleet[1:])
    result = update(make_bundle("1.0.0"), gone)
    assert outcomes(result) == [(0, "failed"), (1, "skipped")]
    assert result.exit_code == 5
    assert "not pushed" in result.rows[0].reason


@pytest.mark.parametrize("fleet", [3], indirect=True)
def test_too_many_failures_among_the_rest_stop_it(make_bundle: MakeBundle, fleet: Fleet) -> None:
    gone = (fleet[0], msgspec.structs.replace(fleet[1], port=1), fleet[2])
    stopped = update(make_bundle("1.0.0"), gone, max_failed=0.2)
    assert outcomes(stopped) == [(0, "activated"), (1, "failed"), (2, "skipped")]
    assert "1 of 2 boards failed" in stopped.stopped
    assert stopped.exit_code == 5
    tolerant = update(make_bundle("1.0.0"), gone, max_failed=0.5)
    assert outcomes(tolerant) == [(0, "unchanged"), (1, "failed"), (2, "activated")]
    assert (tolerant.stopped, tolerant.exit_code) == ("", 5)


def test_a_dry_run_changes_nothing(make_bundle: MakeBundle, fleet: Fleet) -> None:
    result = update(make_bundle("1.0.0"), fleet, dry_run=True)
    assert outcomes(result) == [(0, "planned"), (1, "planned")]
    assert all("would" in row.reason for row in result.rows)
    assert active(fleet) == ["", ""]


def test_without_a_canary_nothing_is_begun(make_bundle: MakeBundle, fleet: Fleet) -> None:
    with pytest.raises(UsageError, match="canary"):
        update(make_bundle("1.0.0"), fleet[1:])
    with pytest.raises(UsageError, match="margin"):
        update(make_bundle("1.0.0"), fleet, margin=-0.1)


def test_the_script_prints_a_table_and_exits_as_the_design_says(make_bundle: MakeBundle, fleet: Fleet) -> None:
    command = [sys.executable, str(ROOT / "scripts/fleet-update"), str(make_bundle("1.0.0").path)]
    options = ["--canary", fleet[0].name, "--allow-unsigned", "--processes", "2", "--samples", "5"]
    done = subprocess.run([*command, *(t.name for t in fleet), *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["target", "wave", "outcome"]
    assert [line.split()[:3] for line in lines[1:]] == [
        [fleet[0].name, "canary", "activated"],
        [fleet[1].name, "1", "activated"],
    ]
    unknown = subprocess.run([*command, "nowhere"], capture_output=True, text=True, check=False)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "nowhere" in unknown.stderr


def test_the_gravest_code_counts() -> None:
    row = campaign.Row("a", 0, "activated")
    assert FleetResult((row,)).exit_code == 0
    assert FleetResult((row,), stopped="slower").exit_code == 4
    assert FleetResult((row, campaign.Row("b", 1, "failed", exit_code=5)), stopped="too many").exit_code == 5


def test_a_canary_in_another_state_than_before_is_not_compared(
    make_report: Callable[..., Report], loopback: Target
) -> None:
    """Somebody set another governor in between: a ratio would say nothing of the release."""
    course = campaign._Course(None, Settings(), Plain())  # type: ignore[arg-type]  # no bundle is looked at
    before, after = make_report(), make_report(seed=1, runtime=RuntimeRef("onnxruntime", "1.20", 1, None))
    assert course._held(loopback, before, after).comparison is not None  # the release brings its own runtime
    state = msgspec.structs.replace(after.run_context.before, governor="powersave")
    slowed = msgspec.structs.replace(after, run_context=msgspec.structs.replace(after.run_context, before=state))
    with pytest.raises(InputError, match="other CPU governors before the run: performance and powersave"):
        course._held(loopback, before, slowed)
