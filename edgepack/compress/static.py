"""Static quantization of one float file: what every format does alike. Tricks are tried, and kept where they help this model.

Each trial is the quantized file itself in its own runtime, on calibration samples that were held out of the correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from edgepack.compress.calibration import Calibration
from edgepack.compress.correction import LayerNoise, Walk, walk_through
from edgepack.compress.operators import Quantized
from edgepack.compress.ranges import Method, Range
from edgepack.compress.trial import Quality, Trial
from edgepack.recipe import Quantize
from edgepack.samples import Samples

Rest = Literal["int8", "fp16"]
Correction = Literal["weights rounded and biases corrected", "biases corrected"]

FIT = 16
"""Samples that biases are corrected on: more changed nothing on EfficientNet-Lite0 and cost in proportion."""
LEAST_GAIN_DB = 0.1
"""What a trick must gain to be kept."""
_CLEAR_GAIN_DB = 1.0
"""What rounding and correcting must gain together for correcting alone not to be tried."""
_RESCUE_DB = 3.0
"""What leaving an output's last operators in float must gain."""
_WORTH_DB = 0.3
"""What weights of operators in float must gain by 16 bits for their 8 bits not to do."""
_PLENTY_DB = 30.0
"""Answers of so little noise, a thousandth of the signal's power, are not made better by larger files."""
_POOR_DB = 10.0
"""Below this an output is looked at: perhaps its last operators are what loses it."""


@dataclass(frozen=True)
class Plan:
    """How a file is written.

    method: how ranges are taken; in_float: names of operators that are left in float
    rest: how the weights of those are stored, and of what the library cannot quantize (they are computed with in float)
    """

    method: Method
    rest: Rest
    in_float: frozenset[str] = frozenset()


class Static(Protocol):
    """One float file on its way to static integers, in either format."""

    @property
    def calibration(self) -> Calibration: ...

    @property
    def rests(self) -> tuple[Rest, ...]:
        """How weights may be stored that are computed with in float, at no cost in time; the fewest bits first."""

    def ranges(self, method: Method) -> Mapping[str, Range]:
        """The range of every tensor, from the one pass over the calibration samples."""

    def write(self, plan: Plan) -> bytes:
        """The quantized file."""

    def rest(self, data: bytes) -> tuple[str, ...]:
        """The operators of a quantized file that compute in float with weights that are stored as the plan's `rest` says."""

    def walk(self, data: bytes, samples: Samples) -> tuple[Walk, Callable[[], bytes]]:
        """A walk beside the float file, and what gives the bytes of the quantized file after it."""

    def last_operators(self, output: int) -> tuple[str, ...]:
        """The operators between the last layer and an output, that layer first."""

    def with_activation(self, layer: str) -> tuple[str, ...]:
        """A layer and the operators that the runtime fuses with it."""

    def output_of(self, layer: str) -> str:
        """The tensor that a layer gives after its activation."""

    def finish(self, data: bytes) -> tuple[bytes, Quantized]:
        """The file as it is given away, and which of its operators compute on integers."""


@dataclass(frozen=True)
class Candidate:
    """One quantized file and how it came to be.

    plan: that it was written by; layers: what the walk saw, empty where there was none; correction: what was done to them,
    in words
    """

    data: bytes
    quality: Quality
    plan: Plan
    layers: tuple[LayerNoise, ...] = ()
    correction: Correction | None = None


def best(static: Static, trial: Trial, fit: Samples, wanted: Quantize) -> tuple[Candidate, tuple[str, ...]]:
    """The best file that the wanted ranges and correction give, and what was found on the way, in words."""
    chosen, notes = _best_ranges(static, trial, _methods(wanted, trial))
    chosen, rescued = _rescue_outputs(static, trial, chosen)
    chosen = _store_rest(static, trial, chosen)
    notes += rescued
    if wanted.correct == "off" or (wanted.correct == "auto" and not trial.meaningful):
        return chosen, notes
    found = _best_correction(static, trial, fit, chosen)
    gain = found.quality.sqnr_db - chosen.quality.sqnr_db
    if wanted.correct == "on" or gain >= LEAST_GAIN_DB:
        return found, (*notes, f"{found.correction} of {len(found.layers)} layers ({gain:+.1f} dB)")
    # The walk is the measurement of the layers, whether its corrections are kept or not.
    layers = tuple(replace(layer, shift=0.0) for layer in found.layers)
    return replace(chosen, layers=layers), (*notes, f"biases as they were (correction: {gain:+.1f} dB)")


def _best_correction(static: Static, trial: Trial, fit: Samples, candidate: Candidate) -> Candidate:
    """Weights rounded anew and biases corrected, or the biases alone, whichever answers better.

    The second is tried only where the first gains little: it costs another walk, and rounding is what goes wrong if anything.
    """
    both = corrected(static, trial, fit, candidate, "weights rounded and biases corrected")
    if both.quality.sqnr_db - candidate.quality.sqnr_db >= _CLEAR_GAIN_DB:
        return both
    biases = corrected(static, trial, fit, candidate, "biases corrected")
    return max(both, biases, key=lambda each: each.quality.sqnr_db)


def corrected(static: Static, trial: Trial, fit: Samples, candidate: Candidate, how: Correction) -> Candidate:
    """The candidate corrected layer by layer."""
    walk, finish = static.walk(candidate.data, fit)
    layers = walk_through(walk, rounds=how != "biases corrected")
    data = finish()
    return replace(candidate, data=data, quality=trial.of(data), layers=layers, correction=how)


def attempt(static: Static, trial: Trial, plan: Plan) -> Candidate:
    data = static.write(plan)
    return Candidate(data, trial.of(data), plan)


def _methods(wanted: Quantize, trial: Trial) -> tuple[Method, ...]:
    if wanted.ranges != "auto":
        return (wanted.ranges,)
    return ("minmax", "mse") if trial.meaningful else ("minmax",)


def _best_ranges(static: Static, trial: Trial, methods: tuple[Method, ...]) -> tuple[Candidate, tuple[str, ...]]:
    first, *others = methods
    chosen = attempt(static, trial, Plan(first, static.rests[0]))
    notes: tuple[str, ...] = (f"ranges: {first}",)
    for method in others:
        if static.ranges(method) == static.ranges(first):
            continue
        other = attempt(static, trial, Plan(method, static.rests[0]))
        gain = other.quality.sqnr_db - chosen.quality.sqnr_db
        if gain >= LEAST_GAIN_DB:
            chosen, notes = other, (f"ranges: {method} ({gain:+.1f} dB over {chosen.plan.method})",)
        else:
            notes = (f"ranges: {chosen.plan.method} ({method}: {gain:+.1f} dB)",)
    return chosen, notes


def _rescue_outputs(static: Static, trial: Trial, candidate: Candidate) -> tuple[Candidate, tuple[str, ...]]:
    """Leave the last operators before a poor output in float, then its last layer too, where that brings the output back.

    A softmax over a thousand classes, or a small change upon a large constant, falls below one step of its output.
    """
    notes: tuple[str, ...] = ()
    for output, quality in enumerate(candidate.quality.outputs_db):
        if quality is None or quality >= _POOR_DB:
            continue
        layer, *after = static.last_operators(output) or ("",)
        for names in (after, [layer, *after]):
            if not names or not names[0] or set(names) <= candidate.plan.in_float:
                continue
            other = attempt(static, trial, replace(candidate.plan, in_float=candidate.plan.in_float | {*names}))
            gain = (other.quality.outputs_db[output] or 0.0) - (candidate.quality.outputs_db[output] or 0.0)
            if gain >= _RESCUE_DB:
                candidate = other
                notes += (
                    f"output {output} is lost in integers: its last {len(names)} operators stay in float ({gain:+.1f} dB)",
                )
                break
    return candidate, notes


def _store_rest(static: Static, trial: Trial, candidate: Candidate) -> Candidate:
    """Weights that are computed with in float are stored in 16 bits where 8 bits are seen to spoil the answers."""
    widest = static.rests[-1]
    if candidate.plan.rest == widest or candidate.quality.sqnr_db >= _PLENTY_DB or not static.rest(candidate.data):
        return candidate
    wider = attempt(static, trial, replace(candidate.plan, rest=widest))
    return wider if wider.quality.sqnr_db - candidate.quality.sqnr_db >= _WORTH_DB else candidate
