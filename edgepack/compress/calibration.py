"""One pass over the calibration samples per float file: a histogram of each of its tensors, from which all ranges are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgepack import digest
from edgepack.compress.histogram import Histogram
from edgepack.compress.ranges import Method, Range, choose
from edgepack.digest import Digest
from edgepack.samples import Array, Arrays, Samples

Watch = Callable[[Arrays], Iterator[tuple[str, Array]]]
"""One sample in, every float tensor of the model by its name out; an array is only good until the next one is asked for."""


@dataclass(frozen=True)
class Calibration:
    """What the tensors of one float file hold.

    histograms: by the tensor's name; samples: how many were run
    """

    histograms: dict[str, Histogram]
    samples: int

    def ranges(self, method: Method, levels: int) -> dict[str, Range]:
        return {name: choose(seen, method, levels) for name, seen in self.histograms.items()}


def calibrate(watch: Watch, samples: Samples) -> Calibration:
    """Run every sample once, in order. Memory: one sample's tensors and 32 KB a tensor, however many samples there are."""
    histograms: dict[str, Histogram] = {}
    for batch in samples.batches(1):
        for name, values in watch(batch):
            histograms.setdefault(name, Histogram()).add(values)
    return Calibration(histograms, len(samples))


@dataclass
class Passes:
    """The calibrations of one build, so that the precisions of one float file share the pass over its samples."""

    _done: dict[tuple[Digest, Digest], Calibration] = field(default_factory=dict)

    def of(self, file: Path, samples: Samples, watch: Callable[[], Watch]) -> Calibration:
        """The calibration of `file` over `samples`; `watch` opens it, where it was not done before."""
        key = (digest.of_file(file), samples.digest)
        if key not in self._done:
            self._done[key] = calibrate(watch(), samples)
        return self._done[key]
