"""Intervals: fitted to what is known, wide enough for what was left out, and never for what nobody measured."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from edgepack import catalog
from edgepack.estimate import Estimate, NoEstimate, Own, estimate, fitted
from edgepack.estimate.fitting import Row, fit, leave_out, nested, unknown_device_and_family, width_of
from edgepack.estimate.law import KINDS, Arithmetic, Core, centre_ms, products
from edgepack.names import Precision
from edgepack.work import Work

TRUTH = {"dense": 0.5, "pointwise": 1.0, "depthwise": 4.0, "matrix": 2.0}
CORES = {"slow": Core(1.0, 1.0), "middle": Core(1.5, 1.5), "fast": Core(2.5, 3.0)}
NET = Work(dense=10_000_000, pointwise=200_000_000, depthwise=15_000_000, matrix=1_000_000)


def _rows(noise: float, seed: int = 0, families: int = 12) -> list[Row]:
    random = np.random.default_rng(seed)
    rows = []
    for family in range(families):
        macs = random.gamma(1.0, 1e8, 4).astype(int) + 1_000_000
        work = Work(**dict(zip(KINDS, map(int, macs), strict=True)))
        base = sum(TRUTH[kind] * getattr(work, kind) / 1e6 for kind in KINDS)
        for device, core in CORES.items():
            for arithmetic, factor in (("float", 1.0), ("int8", 0.5)):
                ms = base * factor / core.speed(1, 0.75) * math.exp(random.normal(0, noise))
                kind: Arithmetic = "float" if arithmetic == "float" else "int8"
                rows.append(Row(device, core, 1, kind, f"net{family}", f"net{family}", work, ms))
    return rows


def test_a_law_is_found_again() -> None:
    found = fit(_rows(0.0))
    assert found.weights == pytest.approx(TRUTH, rel=1e-3)
    assert found.offsets["float"] == pytest.approx(0.0, abs=1e-3)
    assert found.offsets["int8"] == pytest.approx(math.log(0.5), abs=1e-3)


def test_what_is_left_out_is_not_seen() -> None:
    rows = _rows(0.1)
    lying = [replace(row, ms=row.ms * 50) if row.device == "fast" else row for row in rows]
    of_fast = [one.error for one in leave_out(lying, unknown_device_and_family) if one.row.device == "fast"]
    assert np.median(of_fast) == pytest.approx(math.log(50), abs=0.2)


def test_intervals_hold_new_devices_and_networks_as_often_as_stated() -> None:
    hits = [left.hit for seed in range(4) for left in nested(_rows(0.3, seed, families=8))]
    assert np.mean(hits) >= 0.9
    rows = _rows(0.3)
    left = list(leave_out(rows, unknown_device_and_family))
    width = width_of(left)
    for device in CORES:
        assert np.mean([abs(one.error) <= width for one in left if one.row.device == device]) >= 0.9


def test_the_shipped_law_says_what_it_rests_on() -> None:
    known = fitted()
    assert set(known.weights) == set(KINDS)
    assert all(weight >= 0 for weight in known.weights.values())
    assert known.coverage == 0.9
    assert 1.0 < known.width < 1.5
    assert "BSD-3-Clause" in known.source


@pytest.mark.parametrize(
    ("profile", "precision", "work", "reason"),
    [
        ("linux-x86_64", "fp32", NET, "no published table has a board of the profile linux-x86_64"),
        ("linux-aarch64", "fp32", NET, "no published table has a board"),
        ("rpi4", "w8d", NET, "no published table has w8d"),
        ("rpi5", "w8a8", NET, "dot product"),
        ("rpi4", "fp32", Work(dense=1_000_000), "1 million products, where the published networks have 13.6 to"),
    ],
)
def test_what_no_table_has_gets_no_estimate(profile: str, precision: Precision, work: Work, reason: str) -> None:
    (resolved,) = catalog.load_profiles((profile,))
    found = estimate(fitted(), resolved, "litert", precision, work)
    assert isinstance(found, NoEstimate)
    assert reason in found.reason


@pytest.mark.parametrize(("profile", "precision", "published"), [("rpi4", "fp32", 93.48), ("rpi3", "w8a8", 110.0)])
def test_an_estimate_is_an_interval_with_its_coverage(profile: str, precision: Precision, published: float) -> None:
    """MobileNetV2 on one thread: ncnn's own 93.48 ms on a Raspberry Pi 4."""
    (resolved,) = catalog.load_profiles((profile,))
    mobilenet = Work(dense=10_838_016, pointwise=267_939_840, depthwise=20_716_416, matrix=1_280_000)
    found = estimate(fitted(), resolved, "litert", precision, mobilenet)
    assert isinstance(found, Estimate)
    assert found.low_ms < published < found.high_ms
    assert found.high_ms / found.low_ms == pytest.approx(math.exp(2 * fitted().width))
    assert (found.coverage, found.basis) == (0.9, "published tables")
    middle = centre_ms(fitted(), mobilenet, "float" if precision == "fp32" else "int8", Core(1.8, 1.5))
    assert middle > 0


def test_own_reports_hold_the_next_model_as_often_as_stated() -> None:
    (resolved,) = catalog.load_profiles(("rpi4",))
    random = np.random.default_rng(0)
    hits, rounds = 0, 2000
    for _ in range(rounds):
        rates = np.exp(random.normal(0, 0.5, 6)) / 1e6
        own = [Own(f"m{index}", "litert", "w8d", NET, rate * NET.macs) for index, rate in enumerate(rates[:5])]
        found = estimate(fitted(), resolved, "litert", "w8d", NET, own)
        assert isinstance(found, Estimate)
        hits += found.low_ms <= rates[5] * NET.macs <= found.high_ms
    assert (found.coverage, found.basis) == (pytest.approx(4 / 6), "own reports")
    assert hits / rounds == pytest.approx(4 / 6, abs=0.035)


def test_own_reports_are_weighed_by_the_kinds_of_their_operators() -> None:
    """Where models differ in nothing but their operators, the next one's latency is known exactly."""
    (resolved,) = catalog.load_profiles(("rpi5",))
    known = fitted()
    nets = [Work(pointwise=100_000_000, depthwise=10_000_000 * index, dense=50_000_000) for index in range(6)]
    own = [Own(f"m{at}", "litert", "w8a8", one, 0.2 * products(known, one)) for at, one in enumerate(nets[:5])]
    found = estimate(known, resolved, "litert", "w8a8", nets[5], own)
    assert isinstance(found, Estimate)
    assert found.low_ms == pytest.approx(found.high_ms) == pytest.approx(0.2 * products(known, nets[5]))
    far = estimate(known, resolved, "litert", "w8a8", Work(pointwise=5_000_000_000), own)
    assert isinstance(far, NoEstimate)
    assert far.reason.endswith("on such a board, give one (so far 5, none near this size)")


def test_own_reports_count_a_model_once_and_only_its_own_kind() -> None:
    (resolved,) = catalog.load_profiles(("rpi4",))
    three = [Own(f"m{index}", "litert", "fp32", NET, 50.0) for index in (1, 2, 3)]
    others = [
        Own("m3", "litert", "fp32", NET, 60.0),
        Own("m4", "onnxruntime", "fp32", NET, 1.0),
        Own("m5", "litert", "w8a8", NET, 1.0),
    ]
    found = estimate(fitted(), resolved, "litert", "fp32", NET, [*three, *others])
    assert isinstance(found, Estimate)
    assert found.basis == "published tables"
    fourth = Own("m6", "litert", "fp32", NET, 40.0)
    found = estimate(fitted(), resolved, "litert", "fp32", NET, [*three, *others, fourth])
    assert isinstance(found, Estimate)
    assert (found.low_ms, found.high_ms) == (pytest.approx(40.0), pytest.approx(60.0))
    assert (found.coverage, found.basis) == (0.6, "own reports")
