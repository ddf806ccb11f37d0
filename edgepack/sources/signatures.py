"""Which fixed shapes a model is packed with: a board's runtime plans its memory once, for one sample at a time. Pure."""

from __future__ import annotations

import difflib

from msgspec.structs import replace

from edgepack.errors import InputError
from edgepack.model import TensorSpec

Specs = tuple[TensorSpec, ...]

DTYPES = frozenset(
    {"float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"}
)


def settle(source: str, found: Specs, declared: Specs) -> Specs:
    """The inputs that a file has, every size fixed: the batch to 1, the others by what was declared for that name.

    Raises InputError naming the input and the dimension that is still open, or a declaration that does not fit.
    """
    names = [spec.name for spec in found]
    for spec in declared:
        if spec.name not in names:
            near = difflib.get_close_matches(spec.name, names, n=1)
            raise InputError(
                f"{source} has no input {spec.name!r}",
                expected=f"one of {', '.join(names)}",
                advice=f"perhaps you meant {near[0]!r}?" if near else "correct the name in [model] inputs",
            )
    by_name = {spec.name: spec for spec in declared}
    return tuple(_settle_one(source, spec, by_name.get(spec.name)) for spec in found)


def check_declared(source: str, declared: Specs) -> Specs:
    """Declared inputs of a model that does not know its own shapes. Raises InputError for what cannot be run."""
    for spec in declared:
        _check_one(source, spec)
    names = [spec.name for spec in declared]
    if len(set(names)) != len(names):
        raise InputError(f"{source}: two inputs have the same name in {', '.join(names)}", advice="rename one of them")
    return declared


def clean_names(names: list[str]) -> list[str]:
    """Names without what exporters wrap around them: `serving_default_x:0` is `x`. Left alone where two would collide."""
    short = [name.split(":")[0].removeprefix("serving_default_") or name for name in names]
    return short if len(set(short)) == len(names) else names


def _settle_one(source: str, found: TensorSpec, declared: TensorSpec | None) -> TensorSpec:
    shape = list(found.shape)
    if declared is not None:
        if len(declared.shape) != len(shape):
            raise _misfit(source, found, declared)
        for axis, (own, wanted) in enumerate(zip(shape, declared.shape, strict=True)):
            if own is not None and own != wanted:
                raise _misfit(source, found, declared)
            shape[axis] = wanted
    if shape and shape[0] is None:
        shape[0] = 1
    for axis, size in enumerate(shape):
        if size is None:
            example = ",".join("N" if n is None else str(n) for n in shape)
            raise InputError(
                f"{source}: input {found.name!r} leaves dimension {axis} of its shape open: {found}",
                expected="fixed sizes, because a board's runtime plans its memory once",
                advice=f'say it with --input {found.name}={example}, or [model] inputs = [{{ name = "{found.name}", '
                f"shape = [{example}] }}], N being the size",
            )
    settled = replace(found, shape=tuple(shape), layout=declared.layout if declared else found.layout)
    _check_one(source, settled)
    return settled


def _check_one(source: str, spec: TensorSpec) -> None:
    if spec.dtype not in DTYPES:
        raise InputError(
            f"{source}: input {spec.name!r} has the dtype {spec.dtype!r}",
            expected=f"one of {', '.join(sorted(DTYPES))}",
            advice="move what makes it (text, a resource) out of the model",
        )
    if not spec.shape or any(size is None or size < 1 for size in spec.shape):
        raise InputError(f"{source}: input {spec.name!r} has the shape {list(spec.shape)}", expected="sizes from 1 up")
    if spec.shape[0] != 1:
        raise InputError(
            f"{source}: input {spec.name!r} has the shape {list(spec.shape)}, whose first axis is not 1",
            expected="the batch axis first, of size 1: boards run one sample at a time",
            advice=f"export the model with a batch of 1, or write the shape as {[1, *spec.shape]} if the batch is missing",
        )


def _misfit(source: str, found: TensorSpec, declared: TensorSpec) -> InputError:
    return InputError(
        f"{source}: the shape declared for input {found.name!r} is {list(declared.shape)}, the model's is "
        f"[{', '.join('?' if n is None else str(n) for n in found.shape)}]",
        advice="correct the shape in [model] inputs or --input; only sizes shown as ? can be chosen",
    )
