"""Run a model of an edgepack release: `load("kws")(x)`. Numpy and the release's runtime are all it needs; Python 3.9 or newer.

A copy of this file lies in every release on a board (`~/.edgepack/current/NAME/run.py`), for applications:

    import sys; sys.path.insert(0, "/home/pi/.edgepack/current/kws")
    from run import load
    model = load("kws")
    print(model.classify(x))

The same file opens models for edgepack itself, on the host and inside the agent.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MODULES = {
    "litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "onnxruntime": "onnxruntime",
}
_PACKAGES = {"litert": "ai-edge-litert", "tflite-runtime": "tflite-runtime", "onnxruntime": "onnxruntime"}
_ONNX_TYPES = {"float": "float32", "double": "float64"}
_ONNX_ERRORS = (
    "Fail",
    "InvalidArgument",
    "NoModel",
    "InvalidProtobuf",
    "InvalidGraph",
    "NotImplemented",
    "RuntimeException",
)


class ModelError(Exception):
    """A model cannot be opened or asked like that. The message names the file or the input, and says what was expected."""


class Tensor(NamedTuple):
    """An input or output as a caller sees it. shape: None where the model leaves a size open; dtype: numpy's name."""

    name: str
    shape: Tuple[Optional[int], ...]
    dtype: str


class Quantization(NamedTuple):
    """real = (stored - zero_point) * scale; dtype: of what is stored."""

    scale: float
    zero_point: int
    dtype: str


class Shot(NamedTuple):
    """One prepared inference. set: puts its inputs in place; run: the runtime's own entry, which a benchmark times"""

    set: Callable[[], None]
    run: Callable[[], object]


class Session(ABC):
    """An open model. `run` takes and gives real values, `run_raw` what the file stores.

    inputs, outputs: in the order of the source's signature; a quantized one shows float32
    """

    runtime: str
    version: str
    inputs: List[Tensor]
    outputs: List[Tensor]
    quantized_inputs: List[Optional[Quantization]]
    quantized_outputs: List[Optional[Quantization]]

    def run(self, arrays: Sequence[Array]) -> List[Array]:
        """One inference in real values.

        Inputs that the file stores as integers with a scale are quantized, such outputs dequantized; an array that already
        has the integer dtype is used as it is. Raises ModelError for a wrong count, shape or dtype.
        """
        outputs = self.run_raw(self.stored(arrays))
        return [out if how is None else dequantize(out, how) for out, how in zip(outputs, self.quantized_outputs)]

    def stored(self, arrays: Sequence[Array]) -> List[Array]:
        """Real values in the form that the file stores: what `run_raw` and `prepare` take. Raises ModelError as `run` does."""
        _check_count(arrays, self.inputs)
        raw = [
            array if how is None or str(array.dtype) == how.dtype else quantize(array, how)
            for array, how in zip(arrays, self.quantized_inputs)
        ]
        for array, tensor, how in zip(raw, self.inputs, self.quantized_inputs):
            _check_array(array, tensor, how)
        return raw

    def run_raw(self, arrays: Sequence[Array]) -> List[Array]:
        """One inference in what the file stores. Raises ModelError for a wrong count, shape or dtype."""
        _check_count(arrays, self.inputs)
        for array, tensor, how in zip(arrays, self.inputs, self.quantized_inputs):
            _check_array(array, tensor, how)
        self.prepare(arrays)
        self.invoke_only()
        return self.results()

    @abstractmethod
    def prepare(self, arrays: Sequence[Array]) -> None:
        """Set the stored-form inputs of the inferences that follow."""

    @abstractmethod
    def invoke_only(self) -> None:
        """One inference on the prepared inputs, without copies in or out: what a benchmark times."""

    @abstractmethod
    def results(self) -> List[Array]:
        """The stored-form outputs of the last inference, as the caller's own copies."""

    def build(self) -> str:
        """What the runtime's library says of how it was built; empty where it does not tell."""
        return ""

    @abstractmethod
    def shot(self, arrays: Sequence[Array]) -> Shot:
        """An inference of these stored-form inputs, past the runtime's Python wrapper where it has one.

        All shots of a session must have the same shapes, and nothing but them is to be run after the first was made.
        """


def open_model(path: Union[str, Path], runtime: str, threads: int = 1) -> Session:
    """Open `path` with `runtime` (`litert`, `tflite-runtime` or `onnxruntime`) on that many threads.

    Raises ModelError for a missing or broken file, an operator that the runtime does not know, or a missing runtime.
    """
    if runtime not in MODULES:
        raise ModelError(f"runtime {runtime!r} is not known; expected one of {', '.join(sorted(MODULES))}")
    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    module = _import(runtime)
    if runtime == "onnxruntime":
        return OnnxSession(module, str(path), threads)
    return _LiteSession(module, str(path), runtime, threads)


def quantize(array: Array, how: Quantization) -> Array:
    """Real values to stored integers, rounded to nearest and clipped to the dtype's range."""
    import numpy as np

    bounds = np.iinfo(how.dtype)
    stored = np.rint(np.asarray(array, np.float32) / np.float32(how.scale)) + how.zero_point
    clipped: Array = np.clip(stored, bounds.min, bounds.max).astype(how.dtype)
    return clipped


def dequantize(array: Array, how: Quantization) -> Array:
    """Stored integers to float32 real values."""
    import numpy as np

    real: Array = (array.astype(np.float32) - np.float32(how.zero_point)) * np.float32(how.scale)
    return real


class _LiteSession(Session):
    """A TFLite file in LiteRT or tflite-runtime: the same interpreter under two names."""

    def __init__(self, module: Any, path: str, runtime: str, threads: int) -> None:
        try:
            self._interpreter = module.Interpreter(model_path=path, num_threads=threads)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: {runtime} cannot open it: {_one_line(error)}") from None
        self.runtime, self.version = runtime, version_of(runtime)
        self._in, self._out = _ordered_details(self._interpreter)
        self.inputs = [_lite_tensor(name, detail) for name, detail in self._in]
        self.outputs = [_lite_tensor(name, detail) for name, detail in self._out]
        self.quantized_inputs = [_lite_quantization(detail) for _, detail in self._in]
        self.quantized_outputs = [_lite_quantization(detail) for _, detail in self._out]
        self._shapes = [tuple(int(n) for n in detail["shape"]) for _, detail in self._in]

    def prepare(self, arrays: Sequence[Array]) -> None:
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            for (_, detail), shape in zip(self._in, shapes):
                self._interpreter.resize_tensor_input(detail["index"], shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        for (_, detail), array in zip(self._in, arrays):
            self._interpreter.set_tensor(detail["index"], array)

    def invoke_only(self) -> None:
        self._interpreter.invoke()

    def results(self) -> List[Array]:
        return [self._interpreter.get_tensor(detail["index"]) for _, detail in self._out]

    def shot(self, arrays: Sequence[Array]) -> Shot:
        try:
            self.prepare(arrays)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self.runtime} cannot run it on inputs of these shapes: {_one_line(error)}") from None
        inner = getattr(self._interpreter, "_interpreter", None)
        return Shot(partial(self.prepare, arrays), getattr(inner, "Invoke", self._interpreter.invoke))


class OnnxSession(Session):
    """An ONNX file in onnxruntime's CPU provider. Timed inferences go through an IO binding: no copies, no name look-ups."""

    def __init__(self, module: Any, path: str, threads: int, options: Any = None) -> None:
        options = options or module.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # warnings of the runtime are not the application's
        state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        self._errors = tuple(getattr(state, name) for name in _ONNX_ERRORS if hasattr(state, name))
        try:
            self._session = module.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except self._errors as error:
            raise ModelError(f"{path}: onnxruntime cannot open it: {_one_line(error)}") from None
        self.runtime, self.version = "onnxruntime", str(module.__version__)
        self._build = getattr(module, "get_build_info", str)
        self._run_options = module.RunOptions()  # made once: without it every call makes one, for half a microsecond
        self.inputs = [_onnx_tensor(node) for node in self._session.get_inputs()]
        self.outputs = [_onnx_tensor(node) for node in self._session.get_outputs()]
        self.quantized_inputs = [None] * len(self.inputs)
        self.quantized_outputs = [None] * len(self.outputs)
        self._binding: Any = None
        self._bound: List[Array] = []

    def prepare(self, arrays: Sequence[Array]) -> None:
        import numpy as np

        self._binding = self._session.io_binding()
        self._bound = [np.ascontiguousarray(array) for array in arrays]  # the binding borrows their memory
        for tensor, array in zip(self.inputs, self._bound):
            self._binding.bind_cpu_input(tensor.name, array)
        for tensor in self.outputs:
            self._binding.bind_output(tensor.name, "cpu")

    def invoke_only(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except self._errors as error:
            raise ModelError(f"onnxruntime cannot run it: {_one_line(error)}") from None

    def results(self) -> List[Array]:
        return list(self._binding.copy_outputs_to_cpu())

    def build(self) -> str:
        return _one_line(self._build())

    def end_profiling(self) -> str:
        """The file that holds the profile, where one was asked for."""
        return str(self._session.end_profiling())

    def shot(self, arrays: Sequence[Array]) -> Shot:
        self.prepare(arrays)
        bound = self._bound
        inner, native = getattr(self._session, "_sess", None), getattr(self._binding, "_iobinding", None)
        if inner is None or native is None:
            run = partial(self._session.run_with_iobinding, self._binding, self._run_options)
        else:
            run = partial(inner.run_with_iobinding, native, self._run_options)
        return Shot(lambda: _keep(bound), run)


def _keep(arrays: Sequence[Array]) -> None:
    """The binding borrows their memory and has its inputs already: there is nothing to set."""


def _ordered_details(interpreter: Any) -> Tuple[List[Tuple[str, Any]], List[Tuple[str, Any]]]:
    """(name, details) of inputs and outputs, in the order of the source's signature.

    A signature lists its names sorted as text (`args_10` before `args_2`), the graph in whatever order the converter left.
    Numbered names (`args_0`, `output_1`) are therefore ordered by number; others keep the graph's order.
    """
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    signatures = interpreter.get_signature_list() or {}
    if not signatures:
        return [(d["name"], d) for d in inputs], [(d["name"], d) for d in outputs]
    key = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    runner = interpreter.get_signature_runner(key)
    return _named(inputs, runner.get_input_details()), _named(outputs, runner.get_output_details())


def _named(graph: Sequence[Any], signature: Dict[str, Any]) -> List[Tuple[str, Any]]:
    by_index = {int(detail["index"]): detail for detail in graph}
    indices = {name: int(detail["index"]) for name, detail in signature.items()}
    if not set(indices.values()) <= set(by_index):  # a signature of another subgraph: the main one is what runs
        return [(detail["name"], detail) for detail in graph]
    numbers = {name: _number(name) for name in indices}
    if len({number for number in numbers.values() if number is not None}) == len(indices):
        names = sorted(indices, key=lambda name: numbers[name] or 0)
    else:
        position = {index: place for place, index in enumerate(by_index)}
        names = sorted(indices, key=lambda name: position[indices[name]])
    return [(name, by_index[indices[name]]) for name in names]


def _number(name: str) -> Optional[int]:
    found = re.fullmatch(r"(?:args|output)_(\d+)", name)  # as litert-torch names them
    return int(found.group(1)) if found else None


def _lite_tensor(name: str, detail: Any) -> Tensor:
    sizes = detail.get("shape_signature")
    sizes = detail["shape"] if sizes is None or len(sizes) != len(detail["shape"]) else sizes
    quantized = _lite_quantization(detail) is not None
    return Tensor(
        name,
        tuple(None if int(size) < 0 else int(size) for size in sizes),
        "float32" if quantized else _dtype_name(detail["dtype"]),
    )


def _lite_quantization(detail: Any) -> Optional[Quantization]:
    parameters = detail["quantization_parameters"]
    dtype = _dtype_name(detail["dtype"])
    if len(parameters["scales"]) != 1 or dtype not in ("int8", "uint8", "int16"):
        return None
    return Quantization(float(parameters["scales"][0]), int(parameters["zero_points"][0]), dtype)


def _onnx_tensor(node: Any) -> Tensor:
    element = re.sub(r"^tensor\((.*)\)$", r"\1", node.type)
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return Tensor(node.name, shape, _ONNX_TYPES.get(element, element))


def _dtype_name(dtype: Any) -> str:
    import numpy as np

    return str(np.dtype(dtype))


def _check_count(arrays: Sequence[Array], tensors: Sequence[Tensor]) -> None:
    if len(arrays) != len(tensors):
        names = ", ".join(tensor.name for tensor in tensors)
        raise ModelError(f"{len(arrays)} input arrays given; expected {len(tensors)}: {names}")


def _check_array(array: Array, tensor: Tensor, how: Optional[Quantization]) -> None:
    dtype = tensor.dtype if how is None else how.dtype
    if str(array.dtype) != dtype:
        raise ModelError(f"input {tensor.name!r} has dtype {array.dtype}; expected {dtype}")
    fits = array.ndim == len(tensor.shape) and all(want in (None, got) for want, got in zip(tensor.shape, array.shape))
    if not fits:
        wanted = ", ".join("?" if size is None else str(size) for size in tensor.shape)
        raise ModelError(f"input {tensor.name!r} has shape {list(array.shape)}; expected [{wanted}]")


def _import(runtime: str) -> Any:
    try:
        return importlib.import_module(MODULES[runtime])
    except ImportError as error:
        raise ModelError(
            f"the runtime {runtime} cannot be imported by {sys.executable}: {_one_line(error)}; "
            f"expected the package {_PACKAGES[runtime]} installed there"
        ) from None


def version_of(runtime: str) -> str:
    """The installed version of a runtime's package; empty where it says none."""
    from importlib import metadata

    try:
        return metadata.version(_PACKAGES[runtime])
    except metadata.PackageNotFoundError:
        return ""


def _one_line(error: Any) -> str:
    return " ".join(str(error).split())[:300]


class Application:
    """A release opened for an application: raw samples in, outputs in real values out."""

    def __init__(self, session: Session, manifest: Dict[str, Any], variant: str) -> None:
        self.session, self.variant = session, variant
        self.name, self.version = str(manifest["name"]), str(manifest["version"])
        self.labels: List[str] = list(manifest.get("labels") or [])
        self._preprocessing: Optional[Dict[str, Any]] = manifest.get("preprocessing")

    def __call__(self, *inputs: Any) -> Any:
        """One inference. Each input with or without its batch axis; one output is returned bare, several as a list.

        The manifest's preprocessing is applied: `(x * scale - mean) / std`, then the layout change.
        """
        _check_count(inputs, self.session.inputs)
        ready = [self._ready(value, tensor) for value, tensor in zip(inputs, self.session.inputs)]
        outputs = self.session.run(ready)
        return outputs[0] if len(outputs) == 1 else outputs

    def classify(self, *inputs: Any) -> Tuple[str, float]:
        """The label of the highest value of the first output, and that value. Without labels, its index as text."""
        output = self(*inputs)
        scores = (output[0] if isinstance(output, list) else output).reshape(-1)
        best = int(scores.argmax())
        return (self.labels[best] if best < len(self.labels) else str(best)), float(scores[best])

    def _ready(self, value: Any, tensor: Tensor) -> Array:
        import numpy as np

        array = np.asarray(value)
        if array.ndim == len(tensor.shape) - 1:
            array = array[None]
        if self._preprocessing is not None:
            array = preprocess(array, self._preprocessing)
        how = self.session.quantized_inputs[self.session.inputs.index(tensor)]
        if how is not None and str(array.dtype) == how.dtype:
            return array
        return np.ascontiguousarray(array, tensor.dtype)


def preprocess(array: Array, how: Dict[str, Any]) -> Array:
    """A raw batch `[n, …]` to the model's input, float32: `(x * scale - mean) / std`, then `NHWC->NCHW` if that is said."""
    import numpy as np

    mean, std = np.asarray(how["mean"], np.float32), np.asarray(how["std"], np.float32)
    ready = (array.astype(np.float32) * np.float32(how["scale"]) - mean) / std
    layout = how.get("layout") or ""
    if layout:
        before, _, after = layout.partition("->")
        ready = ready.transpose([before.index(axis) for axis in after])
    return np.ascontiguousarray(ready)


def load(name_or_folder: Union[str, Path] = "", variant: Optional[str] = None, threads: int = 1) -> Application:
    """Open a release for an application.

    name_or_folder: a release's name (`~/.edgepack/current/NAME`), its folder, or nothing for the folder this file lies in;
    variant: one of the release's variants, else its default. Raises ModelError where one of them does not exist.
    """
    folder = _release_folder(name_or_folder)
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    chosen = variant or manifest["default"]
    records = {record["id"]: record for record in manifest["variants"]}
    if chosen not in records:
        raise ModelError(f"{folder}: no variant {chosen!r}; expected one of {', '.join(sorted(records))}")
    runtime = records[chosen]["runtime"]
    _provide(runtime, folder)
    return Application(open_model(folder / chosen, runtime, threads), manifest, chosen)


def _release_folder(name_or_folder: Union[str, Path]) -> Path:
    own = Path(__file__).resolve().parent
    if not str(name_or_folder):
        candidates = [own]
    else:
        # current/NAME below the root that this file's own release lies in, for boards with another root than ~/.edgepack
        candidates = [Path(name_or_folder), Path.home() / ".edgepack/current" / name_or_folder]
        if own.parent.parent.name == "releases":
            candidates.insert(1, own.parents[2] / "current" / name_or_folder)
    for folder in candidates:
        if (folder / "manifest.json").is_file():
            return folder.resolve()
    raise ModelError(
        f"no release at {' or '.join(str(folder) for folder in candidates)}; expected a manifest.json there"
    )


def _provide(runtime: str, folder: Path) -> None:
    """Make the release's own runtime environment importable, where this Python is the one that it was built for.

    Raises ModelError naming the Python that can, where this one cannot.
    """
    release = folder / "release.json"
    key = json.loads(release.read_text("utf-8"))["runtimes"].get(runtime, "") if release.is_file() else ""
    if not key.startswith("sha256:"):
        return  # the board's own packages, or a release that was copied by hand
    environment = folder.parents[2] / "runtimes" / key.partition(":")[2]
    packages = environment / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    if packages.is_dir():
        if str(packages) not in sys.path:
            sys.path.insert(0, str(packages))
    elif environment.is_dir():
        raise ModelError(
            f"the runtime of {folder.parent.name} was installed for another Python than {sys.executable}; "
            f"run this with {environment / 'bin' / 'python'}"
        )
