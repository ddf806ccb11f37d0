"""Every variant gets a verdict with a reason; what is kept is a front; the laws hold for any set of variants."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from edgepack import catalog
from edgepack.digest import Digest
from edgepack.names import variant_id
from edgepack.pipeline.weighing import with_measurements
from edgepack.profile import Budget, Profile
from edgepack.recipe import Convert, Quantize, Rehearse
from edgepack.select import expected_cost, needless, select, worth_measuring
from edgepack.variant import Built, Failed, Measurement, Parity, Ratio

PRECISIONS = ("w8a8", "w8d", "fp16", "fp32")


def profile(**budget: float | None) -> Profile:
    (resolved,) = catalog.load_profiles(["rpi4"])
    limits = {"max_drop": 0.01, "max_size_mb": None, "max_p90_ms": None, "max_memory_mb": None} | budget
    return msgspec.structs.replace(resolved.profile, budget=Budget(**limits))


def built(format="tflite", precision="w8a8", sparsity=0.0, size=1000, drop: float | None = 0.0, **more) -> Built:
    return Built(
        id=variant_id("net", "rpi4", precision, sparsity, format),
        runtime="litert" if format == "tflite" else "onnxruntime",
        format=format,
        precision=precision,
        sparsity=sparsity,
        recipe=(Convert(format=format),),
        digest=Digest("sha256:00"),
        size_bytes=size,
        parity=more.pop("parity", Parity(0.1, 0.01, 40.0)),
        score=None if drop is None else 0.9 - drop,
        drop=drop,
        **more,
    )


def verdicts(*variants, **budget):
    selection = select(variants, profile(**budget))
    return {judged.built.id: (judged.status, judged.reason) for judged in selection.judged}, selection.default


def test_a_static_int8_and_its_float_parent_are_both_on_the_front_when_int8_loses_a_little():
    found, default = verdicts(built(drop=0.005, size=300), built(precision="fp32", size=1000))
    assert found["net.rpi4.w8a8.tflite"][0] == "selected" == found[default][0]
    assert found["net.rpi4.fp32.tflite"][0] == "kept"


def test_layers_stay_in_float_only_where_integers_alone_break_the_budget():
    mixed = (Convert(format="tflite"), Quantize(precision="mixed"))
    whole = (Convert(format="tflite"), Quantize(precision="w8a8"))
    within, beyond = (msgspec.structs.replace(built(drop=drop), recipe=whole) for drop in (0.01, 0.02))
    assert needless(mixed, [within], profile()) == "net.rpi4.w8a8.tflite keeps the budget with every layer in integers"
    assert (
        needless(mixed, [beyond], profile())
        == needless(mixed, [], profile())
        == needless(whole, [within], profile())
        == ""
    )
    other = msgspec.structs.replace(within, recipe=(Convert(format="onnx"), Quantize(precision="w8a8")))
    assert needless(mixed, [other], profile()) == ""


def test_a_float_that_is_larger_and_no_better_is_rejected_and_names_its_rival():
    found, _ = verdicts(built(drop=0.0, size=300), built(precision="fp32", drop=0.0, size=1000))
    status, reason = found["net.rpi4.fp32.tflite"]
    assert status == "rejected" and "net.rpi4.w8a8.tflite" in reason


def test_training_for_quantization_is_kept_only_where_it_helps():
    alone = built(drop=0.002, size=300)
    recipe = (Rehearse(), Convert(format="tflite"), Quantize(precision="w8a8"))
    rehearsed = msgspec.structs.replace(
        alone, id=variant_id("net", "rpi4", "w8a8", 0.0, "tflite", qat=True), recipe=recipe
    )
    found, default = verdicts(rehearsed, alone)
    assert default == alone.id and found[rehearsed.id][0] == "rejected" and alone.id in found[rehearsed.id][1]
    assert verdicts(alone, msgspec.structs.replace(rehearsed, drop=0.003))[1] == alone.id
    found, default = verdicts(alone, msgspec.structs.replace(rehearsed, drop=0.001))
    assert default == rehearsed.id and found[alone.id][0] == "rejected"


def test_formats_are_not_compared_with_each_other():
    found, default = verdicts(built(size=300), built(format="onnx", size=900, drop=0.005))
    assert found["net.rpi4.w8a8.onnx"][0] == "kept"
    assert default == "net.rpi4.w8a8.tflite"  # the profile's first runtime


def test_dynamic_int8_does_not_push_out_static_int8_by_a_byte():
    found, _ = verdicts(built(size=1010, drop=0.005), built(precision="w8d", size=1000, drop=0.0))
    assert found["net.rpi4.w8a8.tflite"][0] == "selected"


def test_budgets_at_their_boundary():
    assert verdicts(built(drop=0.01))[1] is not None
    assert verdicts(built(drop=0.0100001))[1] is None
    assert verdicts(built(size=1_000_000), max_size_mb=1.0)[1] is not None
    assert verdicts(built(size=1_000_001), max_size_mb=1.0)[1] is None
    assert verdicts(built(p90_ms=50.0, latency_ms=40.0), max_p90_ms=50.0)[1] is not None
    assert verdicts(built(p90_ms=50.1, latency_ms=40.0), max_p90_ms=50.0)[1] is None
    assert verdicts(built(memory_mb=257.0), max_memory_mb=256.0)[1] is None


def test_a_latency_that_was_not_measured_breaks_no_budget():
    assert verdicts(built(), max_p90_ms=0.001)[1] is not None


def test_measured_slower_than_the_float_parent_is_rejected():
    found, default = verdicts(
        built(latency_ms=5.0, drop=0.0), built(precision="fp32", size=4000, latency_ms=4.0, drop=0.0)
    )
    assert found["net.rpi4.w8a8.tflite"] == (
        "rejected",
        "measured slower than its float parent: 5.000 against 4.000 ms",
    )
    assert default == "net.rpi4.fp32.tflite"


def on_board(ms: float, ratio: tuple[float, float, float] | None = None, verdict="valid", **more) -> Measurement:
    return Measurement(
        target="kitchen",
        stand_in=None,
        p50_ms=ms,
        p90_ms=more.pop("p90_ms", ms),
        memory_mb=more.pop("memory_mb", 30.0),
        against_parent=Ratio(*ratio) if ratio else None,
        verdict=verdict,
        reasons=(),
    )


def test_slower_beyond_noise_is_rejected_and_within_noise_is_not():
    parent = with_measurements(built(precision="fp32", size=4000, drop=0.0), (on_board(4.0),))
    slower = with_measurements(built(drop=0.0), (on_board(4.4, (1.1, 1.05, 1.15)),))
    found, default = verdicts(slower, parent)
    assert found[slower.id][0] == "rejected" and default == parent.id
    assert "measured slower than its float parent on kitchen: 1.10 ×" in found[slower.id][1]
    alike = with_measurements(built(drop=0.0), (on_board(4.1, (1.02, 0.97, 1.07)),))
    found, _ = verdicts(alike, parent)
    assert {status for status, _ in found.values()} == {"kept", "selected"}


def test_where_all_were_measured_formats_are_compared_and_arithmetic_is_not_guessed():
    slow_int8 = with_measurements(built(drop=0.005, size=300), (on_board(9.0, (0.9, 0.8, 0.95)),))
    fast_float = with_measurements(built(format="onnx", precision="fp32", drop=0.0, size=290), (on_board(3.0),))
    found, default = verdicts(slow_int8, fast_float)
    assert default == fast_float.id
    assert found[slow_int8.id] == ("rejected", f"no better than {fast_float.id} in score, size and measured latency")


def test_the_slowest_board_counts_and_one_that_cannot_tell_decides_nothing():
    both = with_measurements(built(), (on_board(1.0, p90_ms=2.0), on_board(3.0, memory_mb=20.0)))
    assert (both.latency_ms, both.p90_ms, both.memory_mb) == (3.0, 3.0, 30.0)
    emulated = on_board(900.0, (9.0, 8.0, 10.0), verdict="invalid")
    none = with_measurements(built(), (on_board(1.0), emulated))
    assert none.latency_ms is None and none.measured[1] is emulated
    assert verdicts(none, max_p90_ms=5.0)[0][none.id] == ("selected", "within the budget, the cheapest expected")


def test_what_breaks_a_budget_anyway_or_failed_is_not_worth_a_board():
    small, large = built(size=300), built(precision="fp32", size=9_000_000)
    failed = Failed(
        id=variant_id("net", "rpi4", "w8d", 0, "onnx"), format="onnx", precision="w8d", sparsity=0, reason=""
    )
    guessed_worse = built(precision="fp16", size=400, drop=0.0)
    assert worth_measuring([small, large, failed, guessed_worse], profile(max_size_mb=1.0)) == (small, guessed_worse)


def test_noise_that_nobody_scored_is_not_packed():
    found, _ = verdicts(built(drop=None, parity=Parity(1.0, 0.5, 9.9)), built(precision="fp32", drop=None, size=9000))
    assert found["net.rpi4.w8a8.tflite"][0] == "rejected" and "SQNR" in found["net.rpi4.w8a8.tflite"][1]


def test_a_failure_keeps_its_reason():
    failed = Failed(
        id=variant_id("net", "rpi4", "w8a8", 0, "onnx"),
        format="onnx",
        precision="w8a8",
        sparsity=0,
        reason="no such operator",
    )
    assert verdicts(failed, built())[0]["net.rpi4.w8a8.onnx"] == ("rejected", "no such operator")
    assert verdicts(failed)[1] is None


def test_half_precision_costs_what_the_core_can_do():
    assert expected_cost("fp16", ["neon"]) > expected_cost("fp16", ["neon", "fp16"])


variants = st.lists(
    st.builds(
        built,
        format=st.sampled_from(("tflite", "onnx")),
        precision=st.sampled_from(PRECISIONS),
        sparsity=st.sampled_from((0.0, 0.5)),
        size=st.integers(1, 5),
        drop=st.sampled_from((-0.01, 0.0, 0.005, 0.01, 0.02)),
    ),
    max_size=12,
    unique_by=lambda variant: variant.id,
)


ratios = st.tuples(st.floats(0.5, 2), st.floats(0, 0.3)).map(
    lambda drawn: (drawn[0], drawn[0] - drawn[1], drawn[0] + drawn[1])
)


@given(
    variants, st.lists(st.tuples(ratios, st.sampled_from(("valid", "suspect", "invalid"))), min_size=12, max_size=12)
)
def test_nothing_that_was_measured_slower_than_its_float_parent_is_kept(given_variants, measured):
    weighed = [
        with_measurements(variant, (on_board(3.0 * ratio[0], ratio, verdict),))
        for variant, (ratio, verdict) in zip(given_variants, measured, strict=False)
    ]
    for judged in select(weighed, profile()).judged:
        (one,) = judged.built.measured
        if one.against_parent.low > 1 and one.verdict != "invalid":
            assert judged.status == "rejected"


@given(variants)
def test_laws_of_the_selection(given_variants):
    selection = select(given_variants, profile())
    assert [judged.built for judged in selection.judged] == given_variants
    assert all(judged.reason for judged in selection.judged)
    met = [judged for judged in selection.judged if judged.built.drop <= 0.01]
    shipped = [judged for judged in selection.judged if judged.status != "rejected"]
    assert bool(met) == bool(shipped) == (selection.default is not None)
    assert [judged.built.id for judged in shipped if judged.status == "selected"] == (
        [selection.default] if shipped else []
    )
    # The best score of each format that meets the budget survives, or one as good as it.
    for format in ("tflite", "onnx"):
        best = min((judged.built.drop for judged in met if judged.built.format == format), default=None)
        kept = [judged.built.drop for judged in shipped if judged.built.format == format]
        assert (min(kept) if kept else None) == best
