"""PyTorch models: what a callable returns, a `torch.export` program, a TorchScript file."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack import digest
from edgepack.digest import Digest
from edgepack.errors import InputError
from edgepack.model import Format, Model, Signature, TensorSpec
from edgepack.ports import Loaded, TorchNative
from edgepack.runtimes import foreign
from edgepack.runtimes.torch_outputs import named_outputs
from edgepack.samples import Arrays
from edgepack.sources import asking, locate
from edgepack.sources.signatures import Specs, check_declared, settle

_PURPOSE = "reading a PyTorch model"


def from_module(source: str, module: Any, code: Digest, inputs: Specs) -> Loaded:
    """An `nn.Module` that the user's code made, asked in eval mode on the CPU."""
    module = module.eval().cpu()
    identity = digest.of_value([code, _state_digest(module)])
    return _load(source, TorchNative(module), identity, check_declared(source, inputs))


def from_exported(source: str, path: Path, declared: Specs) -> Loaded:
    """A `.pt2` of `torch.export.save`."""
    torch = foreign.import_framework("torch", "torch", _PURPOSE)
    with foreign.reading(f"{source} cannot be read as a torch.export program", advice="save it with torch.export.save"):
        program = torch.export.load(path)
        module = program.module()
    inputs = settle(source, _inputs_of_program(source, program), declared)
    return _load(source, TorchNative(module, program, trainable=False), digest.of_file(path), inputs)


def from_script(source: str, path: Path, inputs: Specs) -> Loaded:
    """A TorchScript file. Raises InputError saying what a `.pt` file holds when it is weights or a pickled module."""
    torch = foreign.import_framework("torch", "torch", _PURPOSE)
    _refuse_pickles(torch, source, path)
    with foreign.reading(f"{source} cannot be read as TorchScript", advice="save it with torch.jit.save"):
        module = torch.jit.load(path, map_location="cpu").eval()
    return _load(source, TorchNative(module, trainable=False), digest.of_file(path), check_declared(source, inputs))


def load_weights(module: Any, path: Path, reference: str) -> None:
    """Load a state_dict into `module`: `{"state_dict": …}` and the `module.` prefix of DataParallel are taken off.

    Raises InputError naming the file and the keys that do not fit. Never unpickles code.
    """
    torch = foreign.import_framework("torch", "torch", _PURPOSE)
    if not path.is_file():
        raise InputError(f"{reference}: no such file ({path})", advice="check [model] weights")
    locate.check_bytes(reference, path, locate.Kind.SCRIPT)
    state = _unwrap(_read_state(torch, path, reference), reference)
    wrong = _misfits(module.state_dict(), state)
    if wrong:
        raise InputError(
            f"{reference} does not fit the module {type(module).__name__}: {wrong}",
            advice="build the module with the arguments it was trained with, or name other weights",
        )
    with foreign.reading(f"{reference} does not fit the module {type(module).__name__}"):
        module.load_state_dict(state)


def _misfits(own: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """What a state_dict lacks, has too much or has in another shape, in a few words; empty where it fits."""
    shapes = [
        f"{name} {list(state[name].shape)} for {list(own[name].shape)}"
        for name in own
        if name in state and hasattr(own[name], "shape") and state[name].shape != own[name].shape
    ]
    said = (
        ("missing", [name for name in own if name not in state]),
        ("unexpected", [name for name in state if name not in own]),
        ("another shape", shapes),
    )
    return "; ".join(f"{what} {', '.join(n[:4])}{', …' if len(n) > 4 else ''}" for what, n in said if n)


def forward_names(module: Any) -> list[str]:
    """The names of the positional inputs of `module.forward` that have no default."""
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is p.empty and p.name != "self"]


def _load(source: str, native: TorchNative, identity: Digest, inputs: Specs) -> Loaded:
    torch = foreign.import_framework("torch", "torch", _PURPOSE)

    def ask(arrays: Arrays) -> list[Any]:
        with torch.no_grad():
            result = native.module(*(torch.tensor(array) for array in arrays))
        return [value.detach().numpy() for _, value in named_outputs(result)]

    shown = ", ".join(map(str, inputs))
    with foreign.reading(
        f"{source} fails on its inputs ({shown})",
        expected="a model that runs on the CPU with the inputs' shapes and dtypes",
        advice='correct [model] inputs = [{ name = "x", shape = [1, …] }] or --input x=1,…; the first axis is the batch',
    ):
        with torch.no_grad():
            flat = named_outputs(native.module(*(torch.tensor(array) for array in asking.zeros(inputs))))
        names = [name for name, _ in flat]
        outputs = asking.describe(names, [value.detach().numpy() for _, value in flat])
    model = Model(
        source=source,
        format=Format.TORCH,
        digest=identity,
        signature=Signature(inputs, outputs),
        frameworks=foreign.versions("torch"),
    )
    return Loaded(model, native, asking.checked(source, inputs, names, ask))


def _inputs_of_program(source: str, program: Any) -> Specs:
    by_name = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    specs = []
    for name in program.graph_signature.user_inputs:
        value = by_name.get(name)
        if value is None or not hasattr(value, "shape"):
            raise InputError(f"{source}: its input {name!r} is not a tensor", advice="export it with tensors only")
        sizes = tuple(size if type(size) is int else None for size in value.shape)
        specs.append(TensorSpec(name, sizes, str(value.dtype).removeprefix("torch.")))
    return tuple(specs)


def _refuse_pickles(torch: Any, source: str, path: Path) -> None:
    """TorchScript archives hold `constants.pkl`; what does not is weights or a pickled module."""
    import zipfile

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("/constants.pkl") for name in names):
            return
        if any("models/" in name for name in names):
            raise InputError(
                f"{source} is a torch.export program", advice=f"rename it to {path.with_suffix('.pt2').name}"
            )
    raise InputError(
        f"{source} holds weights or a pickled module, not a program that can run without its code",
        expected="TorchScript (torch.jit.save), or the code and the weights apart",
        advice='source = "model.py:build" with weights = "…" (a state_dict), where build() returns the nn.Module',
    )


def _read_state(torch: Any, path: Path, reference: str) -> Any:
    with foreign.reading(
        f"{reference} cannot be read as a state_dict",
        expected="tensors only: torch.save(model.state_dict(), path)",
        advice="save the state_dict; a pickled module would run its author's code on this machine",
    ):
        return torch.load(path, map_location="cpu", weights_only=True)


def _unwrap(state: Any, reference: str) -> dict[str, Any]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(hasattr(v, "shape") for v in state.values()):
        raise InputError(f"{reference} holds no state_dict", expected="a mapping of names to tensors")
    prefixed = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if prefixed else name: value for name, value in state.items()}


def _state_digest(module: Any) -> Digest:
    """Of all parameters and buffers, by name: a callable may have read its weights from anywhere, or drawn them."""
    hasher = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        hasher.update(name.encode())
        if hasattr(value, "detach"):
            hasher.update(f"{value.dtype}{tuple(value.shape)}".encode())
            hasher.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return Digest("sha256:" + hasher.hexdigest())
