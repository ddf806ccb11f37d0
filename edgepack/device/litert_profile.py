"""LiteRT's own profiler, which its Python does not show: reached through the C functions of its shared library.

The declarations follow litert/c/*.h of LiteRT 2.3 (Apache 2.0). What runs here is its CompiledModel on the CPU with XNNPACK: the
kernels of the interpreter that applications use. A library with another layout is said to be unknown rather than read wrongly.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import struct
import time
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any, Dict, List, Tuple

from . import run as models
from .bench_protocol import Protocol

KNOWN = ("2.3.",)
_CPU = 1
_MOST_DIMENSIONS = 8
_EVENT = struct.Struct("<Q i 4x Q Q 3q 3q Q Q i 4x")
"""tag, type, start and elapsed in µs, memory before and after (three numbers each), two of metadata, source."""
_OPERATOR, _DELEGATE, _PROFILED = 2, 4, 8
_SLOTS = 4096


class _Layout(ctypes.Structure):
    _fields_ = [
        ("rank", c_uint32),
        ("dimensions", c_int32 * _MOST_DIMENSIONS),
        ("strides", c_uint32 * _MOST_DIMENSIONS),
    ]


class _TensorType(ctypes.Structure):
    _fields_ = [("element", c_int), ("layout", _Layout)]


def operators(model: str, protocol: Protocol, seconds: float, most: int) -> Dict[str, Any]:
    """`edgepack.report.Operator`s of zeros as inputs. Raises ModelError where LiteRT refuses a call."""
    from .bench_ops import COARSE, share_out

    version = models.version_of("litert")
    if not version.startswith(KNOWN):
        return {
            "found": [],
            "note": f"not available: the profiler of LiteRT {version} is not known, only that of {KNOWN[0]}x",
        }
    if protocol.batch > 1:
        return {"found": [], "note": "not available: LiteRT's profiler is asked for the model's own batch only"}
    compiled = _Compiled(model, protocol.threads)
    for _ in range(5):
        compiled.run()
    found: Dict[Tuple[str, str], List[int]] = {}
    stop, runs = time.perf_counter() + seconds, 0
    while runs < most and (runs == 0 or time.perf_counter() < stop):
        events = compiled.profiled_run()
        runs += 1
        for index, (name, micros) in enumerate(_kernels(events)):
            found.setdefault((f"{index:03d} {name}", name), []).append(micros * 1000)
    return {"found": share_out(found, runs), "note": COARSE}


def _kernels(events: List[Tuple[str, int, int]]) -> List[Tuple[str, int]]:
    """What computed: the delegate's own operators, and those of the runtime that are not the delegate as a whole."""
    inside = any(kind == _DELEGATE for _, kind, _ in events)
    kept = []
    for name, kind, micros in events:
        whole = kind in (_OPERATOR, _PROFILED) and inside and "delegate" in name.lower()
        if kind in (_OPERATOR, _DELEGATE, _PROFILED) and not whole:
            kept.append((name.replace("Delegate/", ""), micros))
    return kept


class _Compiled:
    """A CompiledModel with its buffers. Nothing is given back: the process ends after it."""

    def __init__(self, model: str, threads: int) -> None:
        spec = importlib.util.find_spec("ai_edge_litert")
        folder = (spec.submodule_search_locations or [""])[0] if spec else ""
        self._library = ctypes.CDLL(os.path.join(folder, "libLiteRt.so"))
        self._environment = self._made("CreateEnvironment", c_int(0), None)
        self._model = self._made("CreateModelFromFile", self._environment, c_char_p(os.fsencode(model)))
        options = self._made("CreateOptions")
        self._call("SetOptionsHardwareAccelerators", options, c_int(_CPU))
        self._add(options, b"runtime_options_string", b"enable_profiling = true\n")
        self._add(options, b"xnnpack", b"num_threads = %d\n" % threads)
        self._compiled = self._made("CreateCompiledModel", self._environment, self._model, options)
        self._profiler = self._made("CompiledModelGetProfiler", self._compiled)
        signature = self._made("GetModelSignature", self._model, c_size_t(0))
        self._inputs, self._outputs = self._buffers("Input", signature), self._buffers("Output", signature)

    def run(self) -> None:
        self._call(
            "RunCompiledModel",
            self._compiled,
            c_size_t(0),
            c_size_t(len(self._inputs)),
            self._inputs,
            c_size_t(len(self._outputs)),
            self._outputs,
        )

    def profiled_run(self) -> List[Tuple[str, int, int]]:
        """One inference's events in their order: (name, type, microseconds)."""
        self._call("ResetProfiler", self._profiler)
        self._call("StartProfiler", self._profiler)
        self.run()
        self._call("StopProfiler", self._profiler)
        count = c_int()
        self._call("GetNumProfilerEvents", self._profiler, byref(count))
        raw = ctypes.create_string_buffer(_EVENT.size * max(1, min(count.value, _SLOTS)))
        self._call("GetProfilerEvents", self._profiler, c_int(min(count.value, _SLOTS)), raw)
        events = []
        for fields in _EVENT.iter_unpack(raw.raw[: _EVENT.size * min(count.value, _SLOTS)]):
            tag = ctypes.cast(c_void_p(fields[0]), c_char_p).value or b""
            events.append((tag.decode("utf-8", "replace"), int(fields[1]), int(fields[3])))
        return events

    def _buffers(self, side: str, signature: c_void_p) -> Any:
        count = c_size_t()
        self._call(f"GetNumSignature{side}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for index in range(count.value):
            tensor = self._made(f"GetSignature{side}TensorByIndex", signature, c_size_t(index))
            kind = _TensorType()
            self._call("GetRankedTensorType", tensor, byref(kind))
            first = c_size_t(0)
            needs = self._made(f"GetCompiledModel{side}BufferRequirements", self._compiled, first, c_size_t(index))
            made = self._made("CreateManagedTensorBufferFromRequirements", self._environment, byref(kind), needs)
            if side == "Input":
                self._call("ClearTensorBuffer", made)
            buffers[index] = made.value
        return buffers

    def _add(self, options: c_void_p, name: bytes, toml: bytes) -> None:
        libc = ctypes.CDLL(None)
        libc.strdup.restype = c_void_p
        payload, free = c_void_p(libc.strdup(c_char_p(toml))), ctypes.cast(libc.free, c_void_p)
        self._call("AddOpaqueOptions", options, self._made("CreateOpaqueOptions", c_char_p(name), payload, free))

    def _made(self, name: str, *arguments: Any) -> c_void_p:
        """Call what gives back a handle through its last argument."""
        handle = c_void_p()
        self._call(name, *arguments, byref(handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"LiteRt{name}")
        function.restype = c_int
        status = function(*arguments)
        if status != 0:
            raise models.ModelError(f"LiteRT's {name} failed with status {status}")
