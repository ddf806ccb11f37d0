"""What a verdict is: on traces whose truth is known, because the test made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from edgepack import stats, verdict
from edgepack.report import Block, Conditions, Gate, Preflight, ProcessRun, Validity

from .traces import run_of, steady


def _judge(processes: Sequence[ProcessRun], **changes: Any) -> Validity:
    evidence: dict[str, Any] = {
        "processes": tuple(processes),
        "summary": stats.summarize(processes),
        "overhead_ns": 500,
        "before": Conditions(governor="performance", load_1m=0.1, throttled=0, temperature_c=50.0),
        "after": Conditions(governor="performance", load_1m=1.0, throttled=0, temperature_c=60.0),
        "board": None,
        "cores": 4,
    }
    return verdict.judge(verdict.Evidence(**{**evidence, **changes}))


def test_a_quiet_board_is_valid() -> None:
    assert [_judge(steady(seed)) for seed in range(20)] == [Validity("valid", ())] * 20


def test_an_emulated_board_is_never_valid() -> None:
    found = _judge(steady(0), board="emulated")
    assert found.verdict == "invalid"
    assert "emulated" in found.reasons[0]


def test_a_loopback_board_is_suspect() -> None:
    found = _judge(steady(0), board="loopback")
    assert found.verdict == "suspect"
    assert "this machine" in found.reasons[0]


@pytest.mark.parametrize("change", [0.2, -0.2, 0.06])
def test_drift_is_seen(change: float) -> None:
    ramp = np.linspace(1, 1 + change, 60)
    drifting = [run_of(np.array(process.samples_ns) * ramp) for process in steady(3)]
    found = _judge(drifting)
    assert found.verdict == "suspect"
    assert any("not steady" in reason and ("slower" if change > 0 else "faster") in reason for reason in found.reasons)


def test_a_board_that_throttles_halfway_drifts() -> None:
    """The clock falls from 1.5 to 1.0 GHz after two thirds of each process."""
    step = np.where(np.arange(60) < 40, 1.0, 1.5)
    found = _judge([run_of(np.array(process.samples_ns) * step) for process in steady(4)])
    assert any("50" in reason and "not steady" in reason for reason in found.reasons)


@pytest.mark.parametrize(("share", "gap"), [(0.5, 1.3), (0.2, 1.5), (0.5, 1.1)])
def test_two_modes_are_seen(share: float, gap: float) -> None:
    random = np.random.default_rng(5)
    runs = [run_of(np.array(p.samples_ns) * np.where(random.random(60) < share, gap, 1)) for p in steady(5)]
    found = _judge(runs)
    assert any("two modes" in reason for reason in found.reasons)


def test_skewed_noise_is_not_two_modes() -> None:
    for seed in range(60):
        for noise in (0.01, 0.1, 0.5):
            assert verdict.two_modes(steady(seed, noise=noise)) is None


def test_a_coarse_clock_is_neither_drift_nor_two_modes() -> None:
    random = np.random.default_rng(6)
    runs = [run_of(random.integers(4990, 5010, 60) * 1000) for _ in range(5)]
    assert verdict.drift(runs) == 0.0
    assert verdict.two_modes(runs) is None
    assert verdict.drift([run_of([5e6] * 60)] * 3) == 0.0


def test_processes_that_differ_are_suspect() -> None:
    runs = [*steady(7, 4), *steady(8, 1, level=5.4e6)]
    assert any("medians of the processes differ" in reason for reason in _judge(runs).reasons)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (0x0, 0x10000, "under-voltage during"),
        (0x0, 0x50005, "under-voltage after"),
        (0x4, 0x40004, "throttled before"),
        (0x0, 0x80000, "soft temperature limit during"),
    ],
)
def test_throttling_during_the_run_is_invalid(before: int, after: int, reason: str) -> None:
    found = _judge(steady(0), before=Conditions(throttled=before), after=Conditions(throttled=after))
    assert found.verdict == "invalid"
    assert reason in found.reasons[0].replace("reported ", "").replace(" the run", "")


def test_throttling_before_the_run_is_no_matter() -> None:
    old = Conditions(throttled=0x50000)
    assert _judge(steady(0), before=old, after=old).verdict == "valid"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"overhead_ns": 60_000}, "a model that computes nothing takes"),
        ({"before": Conditions(load_1m=1.3)}, "the board was busy"),
        ({"after": Conditions(temperature_c=82.0)}, "82 °C"),
        ({"before": Conditions(governor="powersave"), "after": Conditions(governor="powersave")}, "powersave"),
        ({"before": Conditions(governor="ondemand")}, "changed during the run: ondemand, then performance"),
        ({"before": Conditions(swapped_pages=5), "after": Conditions(swapped_pages=500)}, "swapping: 495 pages"),
        ({"preflight": Preflight(busy=0.5)}, "others used 50%"),
        (
            {"preflight": Preflight(gate=Gate(wanted_c=60, waited_s=30, temperature_c=71.0, reached=False))},
            "did not cool to 60 °C within 30 s: it began at 71 °C",
        ),
    ],
)
def test_disturbances_are_suspect(changes: dict[str, Any], reason: str) -> None:
    found = _judge(steady(0), **changes)
    assert found.verdict == "suspect"
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]


def test_limits_are_reached_before_they_are_exceeded() -> None:
    assert _judge(steady(0), before=Conditions(load_1m=1.0)).verdict == "valid"
    p50 = stats.summarize(steady(0)).p50_ns
    assert _judge(steady(0), overhead_ns=p50 // 100).verdict == "valid"
    assert _judge(steady(0), overhead_ns=p50 // 100 + 2).verdict == "suspect"


def test_too_little_is_suspect() -> None:
    assert any("4 processes, at least 5" in reason for reason in _judge(steady(0, 4)).reasons)
    assert any("60 samples, at least 64" in reason for reason in _judge(steady(0, 5, 12)).reasons)
    assert not any("samples" in reason for reason in _judge(steady(0, 5, 16)).reasons)
    wide = _judge(steady(0, noise=0.3))
    assert any("interval" in reason for reason in wide.reasons)


def _with_blocks(times: Sequence[float], told: dict[int, dict[str, Any]], every: int = 10) -> ProcessRun:
    """told: what the board says from a sample on, beside 1500 MHz and no bits."""
    blocks = []
    for start in range(0, len(times), every):
        said: dict[str, Any] = {"mhz": (1500,), "throttled": 0}
        for sample, change in told.items():
            if start >= sample:
                said |= change
        blocks.append(Block(start=start, at_ns=start, **said))
    return msgspec.structs.replace(run_of(times), blocks=tuple(blocks))


def test_the_sample_from_which_on_the_firmware_throttled_is_said() -> None:
    runs = steady(1)
    runs[2] = _with_blocks(runs[2].samples_ns, {30: {"throttled": 0x4}})
    found = _judge(runs)
    assert (found.verdict, found.codes) == ("invalid", ("throttled",))
    assert found.reasons == (
        "the board's firmware reported throttled during the run, from about sample 30 of process 3 on",
    )


def test_a_clock_that_falls_counts_where_inferences_become_slower_with_it() -> None:
    runs = steady(2)
    slower = np.array(runs[1].samples_ns) * np.where(np.arange(60) < 40, 1.0, 1.5)
    slowed = [*runs[:1], _with_blocks(slower, {40: {"mhz": (1000,)}}), *runs[2:]]
    found = _judge(slowed)
    assert found.verdict == "invalid"
    assert "from 1500 to 1000 MHz at sample 40 of process 2" in found.reasons[0]
    resting = [*runs[:1], _with_blocks(runs[1].samples_ns, {40: {"mhz": (1000,)}}), *runs[2:]]
    assert _judge(resting).verdict == "valid"


def test_a_clock_that_comes_back_is_no_throttling() -> None:
    run = _with_blocks(steady(3)[0].samples_ns, {20: {"mhz": (600,)}, 40: {"mhz": (1500,)}})
    assert verdict.slower_clock(run) is None


def test_a_bit_seen_between_processes_is_said() -> None:
    between = (Conditions(throttled=0), Conditions(throttled=8))
    found = _judge(steady(0), between=between)
    assert "soft temperature limit after process 2" in found.reasons[0]


def test_warm_ups_that_do_not_settle_are_drift() -> None:
    restless = [msgspec.structs.replace(run, steady=index > 2) for index, run in enumerate(steady(0))]
    found = _judge(restless)
    assert found.codes == ("drifting",)
    assert "the warm-up of 3 processes did not settle" in found.reasons[0]
    assert _judge([restless[0], *restless[3:], *restless[3:]]).verdict == "valid"


def test_what_makes_a_run_invalid_comes_first_and_a_code_once() -> None:
    found = _judge(steady(0, 2, 10), board="emulated")
    assert found.codes == ("emulated", "too-few-samples")
    assert len(found.reasons) == 3
