"""Which layers a `mixed` file leaves in float: the worst first, each kept only where measuring says that it helps.

Falling back is not monotone: a layer in float can make the answers worse, since errors of others no longer cancel. So the
file is made and asked again after every step, its biases corrected anew, and a step that does not help is undone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgepack.compress.correction import LayerNoise
from edgepack.compress.operators import short
from edgepack.compress.static import Candidate, Plan, Static, attempt, corrected
from edgepack.compress.trial import Trial
from edgepack.errors import InexpressibleError
from edgepack.recipe import Quantize
from edgepack.samples import Samples

_LEAST_GAIN_DB = 0.3
_STEPS = 6
"""Layers that are tried: each costs a quantized file and a walk."""


def ranked(layers: Sequence[LayerNoise]) -> tuple[LayerNoise, ...]:
    """Layers by the noise that each adds to what comes in, relative to the signal, the worst first."""
    noise = {layer.layer.name: 10 ** (-layer.sqnr_db / 10) for layer in layers}

    def added(layer: LayerNoise) -> float:
        return noise[layer.layer.name] - max((noise.get(name, 0.0) for name in layer.after), default=0.0)

    return tuple(sorted(layers, key=lambda layer: (-added(layer), layer.layer.name)))


def search(
    static: Static, trial: Trial, fit: Samples, wanted: Quantize, start: Candidate, file: str
) -> tuple[Candidate, tuple[str, ...]]:
    """The start, which is all integers, with the fewest layers in float that keep the budget; at least one.

    Raises InexpressibleError where no layer in float makes the answers better.
    """
    order = ranked(start.layers)
    if not order:
        raise InexpressibleError(
            f"{file}: no layer of it is quantized, so none can be left in float", advice="use w8a8"
        )
    if wanted.cuts is not None:
        return _fixed(static, trial, fit, wanted, start, order)
    best, kept, tried = start, list[str](), 0
    for layer in order[:_STEPS]:
        tried += 1
        other = _with(static, trial, fit, wanted, best, (layer,))
        if other.quality.sqnr_db - best.quality.sqnr_db >= _LEAST_GAIN_DB:
            best = other
            kept.append(layer.layer.name)
            if best.quality.holds(wanted.max_drop):
                break
    if not kept:
        raise InexpressibleError(
            f"{file}: mixed is no better than w8a8: none of the {tried} layers that add most noise helps in float",
            advice="use w8a8, or w8a16 or fp16 where that is not enough",
        )
    best = _narrowed(static, trial, fit, wanted, best)
    gain = best.quality.sqnr_db - start.quality.sqnr_db
    names = ", ".join(short(name) for name in kept)
    return best, (f"{len(kept)} of {tried} layers tried are left in float ({gain:+.1f} dB): {names}",)


def _fixed(
    static: Static, trial: Trial, fit: Samples, wanted: Quantize, start: Candidate, order: Sequence[LayerNoise]
) -> tuple[Candidate, tuple[str, ...]]:
    cuts = order[: wanted.cuts]
    other = _narrowed(static, trial, fit, wanted, _with(static, trial, fit, wanted, start, cuts))
    gain = other.quality.sqnr_db - start.quality.sqnr_db
    return other, (f"{len(cuts)} layers are left in float, as wanted ({gain:+.1f} dB)",)


def _with(
    static: Static, trial: Trial, fit: Samples, wanted: Quantize, start: Candidate, layers: Sequence[LayerNoise]
) -> Candidate:
    """The start with more layers in float, their weights in the most bits; the biases of the others are corrected anew."""
    names = {name for layer in layers for name in static.with_activation(layer.layer.name)}
    plan = replace(start.plan, in_float=start.plan.in_float | names, rest=static.rests[-1])
    return _made(static, trial, fit, wanted, start, plan)


def _narrowed(static: Static, trial: Trial, fit: Samples, wanted: Quantize, best: Candidate) -> Candidate:
    """The same layers in float with their weights in fewer bits, where the answers are as good: a smaller file as fast."""
    for rest in static.rests[:-1]:
        other = _made(static, trial, fit, wanted, best, replace(best.plan, rest=rest))
        as_good = other.quality.sqnr_db > best.quality.sqnr_db - _LEAST_GAIN_DB
        if as_good and other.quality.holds(wanted.max_drop) >= best.quality.holds(wanted.max_drop):
            return other
    return best


def _made(static: Static, trial: Trial, fit: Samples, wanted: Quantize, start: Candidate, plan: Plan) -> Candidate:
    """What another plan gives, corrected as the start was where that helps it."""
    bare = attempt(static, trial, plan)
    if wanted.correct == "off":
        return bare
    moved = corrected(static, trial, fit, bare, start.correction or "biases corrected")
    if wanted.correct == "on" or moved.quality.sqnr_db >= bare.quality.sqnr_db:
        return moved
    return replace(bare, layers=tuple(replace(layer, shift=0.0) for layer in moved.layers))
