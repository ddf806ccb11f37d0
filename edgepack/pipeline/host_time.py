"""What pruning saves in time, measured: pruned files beside their unpruned float file, in their own runtime on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edgepack import runtimes
from edgepack.names import VariantId
from edgepack.pipeline.make import Made
from edgepack.samples import Arrays, Run, Samples

_ROUNDS = 3
_ROUND_SECONDS = 0.02
_LEAST_RUNS = 3


@dataclass(frozen=True)
class HostTime:
    """One pruned variant against the unpruned float one of its format, taking turns, on one thread of this host.

    Never a device's latency. milliseconds, whole_milliseconds: least medians of the rounds; ratio: of the two
    """

    id: VariantId
    whole: VariantId
    milliseconds: float
    whole_milliseconds: float

    @property
    def ratio(self) -> float:
        return self.milliseconds / self.whole_milliseconds

    def __str__(self) -> str:
        return (
            f"{self.id} takes {self.ratio:.2f} × the time of {self.whole} on this host, one thread "
            f"({self.milliseconds:.3f} against {self.whole_milliseconds:.3f} ms)"
        )


def host_times(made: Sequence[Made], samples: Samples) -> tuple[HostTime, ...]:
    """For every pruned variant whose unpruned float variant was made too."""
    found = []
    for each in made:
        whole = next((other for other in made if _is_whole_of(other, each)), None)
        if each.variant.sparsity and whole is not None:
            pruned, float_ = _side_by_side(_run(each), _run(whole), samples)
            found.append(HostTime(each.variant.id, whole.variant.id, pruned, float_))
    return tuple(found)


def _is_whole_of(other: Made, pruned: Made) -> bool:
    one, two = other.variant, pruned.variant
    return (one.format, one.precision, one.sparsity) == (two.format, "fp32", 0.0)


def _run(made: Made) -> Run:
    return runtimes.open_file(made.model, made.variant.format, threads=1)


def _side_by_side(one: Run, two: Run, samples: Samples) -> tuple[float, float]:
    """Milliseconds of each, in turns: what else the machine does meanwhile falls on both."""
    batch = next(samples.batches(1))
    rounds: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for run, taken in zip((one, two), rounds, strict=True):
            run(batch)
            taken.append(_round(run, batch))
    return min(rounds[0]) * 1e3, min(rounds[1]) * 1e3


def _round(run: Run, batch: Arrays) -> float:
    taken: list[float] = []
    while len(taken) < _LEAST_RUNS or sum(taken) < _ROUND_SECONDS:
        start = time.perf_counter()
        run(batch)
        taken.append(time.perf_counter() - start)
    return median(taken)
