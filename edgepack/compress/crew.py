"""The processes that train together: one, or what torchrun started, speaking over gloo (torch.distributed)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from edgepack.errors import InputError, UsageError
from edgepack.samples import Array, Arrays

_PATIENCE = timedelta(days=1)
"""The first process converts and quantizes between two trainings, while the others wait for it."""


@dataclass(frozen=True)
class Crew:
    """rank: of this process, 0 leads: it reads the cache, keeps checkpoints and writes; size: how many there are"""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    def share(self, inputs: Arrays, labels: Array | None) -> tuple[Arrays, Array | None]:
        """This process's samples of a batch: every `size`-th, so that the crew together sees each once."""
        if self.is_alone:
            return inputs, labels
        rows = slice(self.rank, None, self.size)
        return tuple(array[rows] for array in inputs), None if labels is None else labels[rows]

    def wrap(self, module: Any) -> Any:
        """The module, its gradients averaged over the crew (DistributedDataParallel), all starting from the leader's weights."""
        if self.is_alone:
            return module
        from torch.nn.parallel import DistributedDataParallel

        return DistributedDataParallel(module, find_unused_parameters=True)

    def total(self, *values: float) -> tuple[float, ...]:
        """The sums of each value over the crew."""
        if self.is_alone:
            return values
        import torch
        from torch import distributed

        sums = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(sums)
        return tuple(sums.tolist())

    def tell(self, message: bytes | None) -> bytes:
        """What the leader says, in every process; the others give None."""
        if self.is_alone:
            assert message is not None
            return message
        from torch import distributed

        said = [message]
        distributed.broadcast_object_list(said, src=0)
        assert said[0] is not None, "the leader gives a message"
        return said[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """What goes wrong in one process is an error in all, so that none waits for another for ever."""
        failed: InputError | None = None
        try:
            yield
        except InputError as error:
            failed = error
        if self.is_alone:
            count = float(failed is not None)
        else:
            (count,) = self.total(float(failed is not None))
        if failed is not None:
            raise failed
        if count:
            raise InputError("training stopped in another process", advice="read what that process says")


ALONE = Crew()


def size_of_crew() -> int:
    """How many processes torchrun started, this one included; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1")) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def rank_in_crew() -> int:
    return int(os.environ.get("RANK", "0")) if size_of_crew() > 1 else 0


@contextmanager
def gathered() -> Iterator[Crew]:
    """The crew of this process, connected where torchrun started several."""
    if size_of_crew() == 1:
        yield ALONE
        return
    from edgepack.runtimes import foreign

    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else each process says that it has no unused parameters
    foreign.import_framework("torch", "torch", "training in several processes")
    from torch import distributed

    if not distributed.is_available():
        raise UsageError("this build of torch has no torch.distributed", expected="one that torchrun can use")
    distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Crew(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
