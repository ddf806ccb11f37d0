"""Which boards when, and whether to go on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import UsageError
from edgepack.report import Comparison, Verdict
from edgepack.target import Target
from edgepack.waves import Order, Proceed, Stop, Trial, budget, gate, order, unclear

names = st.lists(st.from_regex(r"[a-z]{1,4}", fullmatch=True), unique=True, max_size=12)


def _targets(*found: str) -> list[Target]:
    return [Target(name=name, host=name, profile="rpi4") for name in found]


def _trial(ratio: float, low: float, high: float, margin: float = 0.10, validity: Verdict = "valid") -> Trial:
    """Built as `stats.compare` builds it."""
    verdict: Any = "slower" if low > 1 else "faster" if high < 1 else "same"
    comparison = Comparison(
        before="a",
        after="b",
        ratio=ratio,
        interval=(low, high),
        p90_ratio=ratio,
        margin=margin,
        verdict=verdict,
        regression=low > 1 and ratio > 1 + margin,
        excluded=high <= 1 + margin,
        validity=validity,
        reasons=("an emulated board",) if validity == "invalid" else (),
    )
    return Trial("kitchen", comparison=comparison)


@given(names, st.data(), st.integers(1, 5))
def test_every_target_is_updated_once_canaries_first(found: list[str], data: st.DataObject, batch: int) -> None:
    targets = _targets(*found)
    chosen = data.draw(st.lists(st.sampled_from(targets), unique_by=lambda target: target.name)) if targets else []
    strangers = _targets("stranger")
    if not chosen:
        with pytest.raises(UsageError, match="canary"):
            order(targets, strangers, batch)
        return
    planned = order(targets, [*chosen, *strangers], batch)
    rest = [target for one in planned.batches for target in one]
    assert {target.name for target in planned.canaries} == {target.name for target in chosen}
    assert sorted((*planned.canaries, *rest), key=targets.index) == targets
    assert rest == [target for target in targets if target not in chosen]
    assert all(1 <= len(one) <= batch for one in planned.batches)
    assert all(len(one) == batch for one in planned.batches[:-1])


def test_a_fleet_of_canaries_has_no_rest() -> None:
    assert order(_targets("a"), _targets("a"), 3) == Order(tuple(_targets("a")), ())
    with pytest.raises(UsageError, match="a batch of 0"):
        order(_targets("a"), _targets("a"), 0)


@pytest.mark.parametrize(
    ("trial", "goes_on"),
    [
        (_trial(1.00, 0.98, 1.02), True),
        (_trial(0.80, 0.75, 0.85), True),
        (_trial(1.05, 1.02, 1.08), True),  # slower, within the margin
        (_trial(1.10, 1.09, 1.11), True),  # on the margin
        (_trial(1.1001, 1.09, 1.12), False),
        (_trial(1.10, 0.50, 2.00), True),  # noise around the margin is a remark
        (_trial(1.11, 0.50, 2.00), False),  # noise beyond it is not
        (_trial(1.50, 1.40, 1.60), False),
        (_trial(1.50, 1.40, 1.60, margin=0.5), True),
        (_trial(1.00001, 1.00001, 1.00001, margin=0), False),
        (_trial(1.0, 1.0, 1.0, margin=0), True),
    ],
)
def test_the_margin_decides(trial: Trial, goes_on: bool) -> None:
    assert isinstance(gate([trial]), Proceed) == goes_on


def test_one_bad_canary_stops_all_and_every_problem_is_said() -> None:
    decision = gate([_trial(1.0, 0.99, 1.01), Trial("hall", failure="unreachable"), _trial(1.5, 1.4, 1.6)])
    assert isinstance(decision, Stop)
    assert "canary hall: unreachable" in decision.reason
    assert "canary kitchen got slower: × 1.500 (95 %: 1.400 … 1.600), the margin is 10%" in decision.reason


def test_not_knowing_is_no_reason_to_go_on() -> None:
    noisy = gate([_trial(1.2, 0.9, 1.6)])
    assert isinstance(noisy, Stop)
    assert "cannot be told from noise" in noisy.reason
    silent = gate([Trial("hall", unmeasured="process 1 was killed by SIGILL")])
    assert isinstance(silent, Stop)
    assert "could not be measured: process 1 was killed by SIGILL" in silent.reason


def test_a_first_release_is_said_and_not_failed() -> None:
    assert gate([Trial("hall", first=True)]) == Proceed(("hall: no release before to compare with",))
    assert isinstance(gate([Trial("hall", first=True, failure="no space")]), Stop)


def test_a_stand_in_is_compared_and_labelled() -> None:
    decision = gate([_trial(1.0, 0.99, 1.01, validity="invalid")])
    assert isinstance(decision, Proceed)
    assert "not as a device's latency: an emulated board" in decision.remarks[0]
    assert isinstance(gate([_trial(1.5, 1.4, 1.6, validity="invalid")]), Stop)


def test_only_a_slow_down_that_may_be_noise_is_measured_again() -> None:
    assert not unclear(_trial(1.0, 0.98, 1.02))
    assert not unclear(_trial(1.1, 1.09, 1.1))
    assert unclear(_trial(1.0, 0.9, 1.2))
    assert unclear(_trial(1.5, 1.4, 1.6))
    assert not unclear(Trial("hall", first=True))


@pytest.mark.parametrize(
    ("failed", "total", "share", "goes_on"),
    [
        (0, 10, 0.0, True),
        (1, 10, 0.0, False),
        (2, 10, 0.2, True),
        (3, 10, 0.2, False),
        (0, 0, 0.0, True),
        (10, 10, 1, True),
    ],
)
def test_the_error_budget(failed: int, total: int, share: float, goes_on: bool) -> None:
    assert isinstance(budget(failed, total, share), Proceed) == goes_on
