"""From what a model computes to an interval of its latency on a class of device. Pure; what was fitted is data beside it.

    latency = e^offset(arithmetic) · Σ weight(kind) · products(kind) / (GHz · lanes · threads^exponent)

One set of weights for all devices, since published tables hold too few networks a device for more. The interval is as wide as it
must be to hold what was left out: `benchmarks/estimator` says how often it does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources
from typing import Literal

import msgspec
from msgspec import Struct

from edgepack.names import Precision
from edgepack.profile import Profile, Resolved
from edgepack.work import Work

Arithmetic = Literal["float", "int8"]
KINDS = ("dense", "pointwise", "depthwise", "matrix")


class Core(Struct, frozen=True):
    """lanes: float products that one core finishes in a cycle, next to a Cortex-A53's: from the widths of their vector units"""

    ghz: float
    lanes: float

    def speed(self, threads: int, exponent: float) -> float:
        return self.ghz * self.lanes * math.pow(threads, exponent)


class Fitted(Struct, frozen=True, kw_only=True):
    """weights: of a million products by kind, relative to pointwise; offsets: of the logarithm of milliseconds

    width: of the interval, either way, in the logarithm; coverage: what it was chosen for; least, most: products of the
    smallest and the largest network that it was fitted to; source: where the latencies come from, under which licence
    """

    weights: dict[str, float]
    offsets: dict[Arithmetic, float]
    exponent: float
    width: float
    coverage: float
    least: int
    most: int
    source: str


class Estimate(Struct, frozen=True, kw_only=True):
    """low_ms, high_ms: hold the median latency on one thread with probability `coverage`; basis: what the interval rests on"""

    low_ms: float
    high_ms: float
    coverage: float
    basis: Literal["published tables", "own reports"]


class NoEstimate(Struct, frozen=True):
    reason: str


class Own(Struct, frozen=True):
    """One of the user's own valid reports on a board of the profile. name: of the model, so that none counts twice"""

    name: str
    runtime: str
    precision: Precision
    work: Work
    p50_ms: float


LEAST_OWN = 4
"""Models: the interval from the least to the greatest of n holds the next with (n − 1) / (n + 1), 60 % here."""
REACH = 4.0
"""How far beyond the smallest and largest known model an estimate still goes."""
_CORES = {
    # Clocks are the boards' own; a profile for a whole class of boards has none, and no estimate.
    "rpi-zero-2w": Core(1.0, 1.0),
    "rpi3": Core(1.4, 1.0),
    "rpi4": Core(1.8, 1.5),
    "rpi5": Core(2.4, 3.0),
}


def fitted() -> Fitted:
    data = resources.files("edgepack.estimate").joinpath("coefficients.json").read_bytes()
    return msgspec.json.decode(data, type=Fitted)


def core_of(resolved: Resolved) -> Core | None:
    """The core of a shipped board, or of the one that a profile of the user's own extends."""
    return _CORES.get(resolved.name) or _CORES.get(resolved.profile.extends)


def arithmetic_of(precision: Precision) -> Arithmetic | None:
    """What the published tables have measured; None for what they have not."""
    match precision:
        case "fp32" | "fp16" | "w8" | "w4":
            return "float"
        case "w8a8":
            return "int8"
        case "w8d" | "w8a16" | "mixed":
            return None


def products(known: Fitted, work: Work) -> float:
    """Million products, each kind of operator weighed by what it costs next to a convolution of one tap."""
    return math.fsum(known.weights[kind] * getattr(work, kind) / 1e6 for kind in KINDS)


def centre_ms(known: Fitted, work: Work, arithmetic: Arithmetic, core: Core, threads: int = 1) -> float:
    """The middle of the interval on the scale of logarithms, which is no estimate of its own: nobody is shown it."""
    return math.exp(known.offsets[arithmetic]) * products(known, work) / core.speed(threads, known.exponent)


def estimate(
    known: Fitted, resolved: Resolved, runtime: str, precision: Precision, work: Work, own: Sequence[Own] = ()
) -> Estimate | NoEstimate:
    """The interval on one thread, from the user's own reports where they are enough, else from the published tables."""
    mine = {one.name: one for one in own if one.runtime == runtime and one.precision == precision}
    alike = [one for one in mine.values() if products(known, one.work) > 0]
    found = from_own(known, work, alike) or _from_tables(known, resolved, precision, work)
    if isinstance(found, Estimate):
        return found
    return NoEstimate(f"{found.reason}; {lacking(runtime, precision, len(alike))}")


def lacking(runtime: str, precision: Precision, have: int) -> str:
    """What would give an estimate all the same."""
    other = ", none near this size" if have >= LEAST_OWN else ""
    return (
        f"{LEAST_OWN} models of about its size, measured by edgepack bench in {precision} with {runtime} on such a board, give "
        f"one (so far {have}{other})"
    )


def _from_tables(known: Fitted, resolved: Resolved, precision: Precision, work: Work) -> Estimate | NoEstimate:
    core, arithmetic = core_of(resolved), arithmetic_of(precision)
    if core is None:
        return NoEstimate(f"no published table has a board of the profile {resolved.name}")
    if arithmetic is None:
        return NoEstimate(f"no published table has {precision}")
    if arithmetic == "int8" and _multiplies_bytes(resolved.profile):
        return NoEstimate("no published table has int8 on a core with a dot product")
    if not known.least / REACH <= work.macs <= known.most * REACH:
        return NoEstimate(
            f"{work.macs / 1e6:.3g} million products, where the published networks have {known.least / 1e6:.3g} to "
            f"{known.most / 1e6:.3g}"
        )
    middle = centre_ms(known, work, arithmetic, core)
    low, high = middle * math.exp(-known.width), middle * math.exp(known.width)
    return Estimate(low_ms=low, high_ms=high, coverage=known.coverage, basis="published tables")


def _multiplies_bytes(profile: Profile) -> bool:
    return "dotprod" in profile.device.isa


def from_own(known: Fitted, work: Work, own: Sequence[Own]) -> Estimate | None:
    """Milliseconds for a weighed product on this very class of board: what the known models took holds the next one.

    Of n exchangeable values the next lies between the least and the greatest with probability (n − 1) / (n + 1), whatever their
    distribution (Wilks, 1941). The weights of the kinds of operators, which no report of the user's had a part in, make the
    values alike, and so the interval narrow; they do not touch its coverage.
    own: one a model, of one runtime, precision and class of board. None where they are too few or of another size
    """
    sizes = [one.work.macs for one in own]
    if len(own) < LEAST_OWN or not min(sizes) / REACH <= work.macs <= max(sizes) * REACH:
        return None
    rates = [one.p50_ms / products(known, one.work) for one in own]
    n, mine = len(rates), products(known, work)
    return Estimate(
        low_ms=min(rates) * mine, high_ms=max(rates) * mine, coverage=(n - 1) / (n + 1), basis="own reports"
    )
