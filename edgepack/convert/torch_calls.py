"""A torch module as its converters want it: eager, exported or TorchScript alike, returning a tuple of tensors."""

from __future__ import annotations

from typing import Any

from edgepack.errors import InexpressibleError
from edgepack.ports import TorchNative
from edgepack.runtimes.torch_outputs import with_tuple_outputs
from edgepack.samples import Arrays


def traceable(native: TorchNative, samples: Arrays) -> tuple[Any, tuple[Any, ...]]:
    """The module and one sample to trace it with.

    TorchScript goes through torch's own TS2EPConverter, private and so tied to the pinned version: torch.export itself
    refuses a ScriptModule. Raises InexpressibleError for a control flow that it does not know.
    """
    import torch

    arguments = tuple(torch.tensor(array[:1]) for array in samples)
    module = native.module
    if isinstance(module, torch.jit.ScriptModule):
        from torch._export.converter import TS2EPConverter

        try:
            module = TS2EPConverter(module, arguments).convert().module()
        except RuntimeError as error:
            raise InexpressibleError(
                f"its TorchScript cannot be exported: {str(error).splitlines()[0]}",
                advice="give the code instead: file.py:callable with weights, or a torch.export program (.pt2)",
            ) from error
    return with_tuple_outputs(module), arguments
