"""Passes beside the headline, each a fresh process: a start from a cold page cache, a load held for minutes, energy."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import mmap
import os
import threading
import time
from array import array
from typing import Any, Dict, List, Tuple

from . import conditions
from . import run as models
from .bench_child import BLOCK_SECONDS, median, open_all, time_some
from .bench_protocol import Protocol
from .child import Beats

ENERGY_SECONDS = 10.0
"""MLPerf Tiny's shortest window."""
_MINUTE = 60.0
_TIMED_A_BLOCK = 200
"""Timed inferences of a sustained block; the rest of it runs untimed, so that a minute of a tiny model fits into memory."""
_COLD = 0.1
"""Share of the pages that may have stayed in memory."""
_RAIL_SECONDS = 0.5


def cold(order: Dict[str, Any], protocol: Protocol, beats: Beats) -> Dict[str, Any]:
    """Import, load and first inference after the model's file and the runtime's libraries were dropped from the page cache."""
    files = [str(order["model"]), *_library_files(str(order["runtime"]))]
    os.sync()  # what was written a moment ago cannot be dropped
    for path in files:
        _drop(path)
    kept, pages = (sum(part) for part in zip(*(_resident(path) for path in files)))
    opened = open_all(order, protocol)
    dropped = pages > 0 and kept <= _COLD * pages
    found = {
        "import_ns": opened.import_ns,
        "load_ns": opened.load_ns,
        "first_ns": opened.first_ns,
        "page_cache": "cold" if dropped else "warm",
        "note": ""
        if dropped
        else f"{kept} of {pages} pages stayed in memory: another process uses them, or the kernel does not tell",
    }
    return {"found": found, "note": found["note"]}


def _library_files(runtime: str) -> List[str]:
    found = []
    for package in (models.MODULES[runtime].partition(".")[0], "numpy"):
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for place, _, names in os.walk(folder):
                found += [os.path.join(place, name) for name in names if ".so" in name]
    return found


def _drop(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def _resident(path: str) -> Tuple[int, int]:
    """(pages of the file in memory, all its pages); all of them where the kernel does not tell."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    size = os.path.getsize(path)
    pages = -(-size // mmap.PAGESIZE)
    if size == 0:
        return 0, 0
    handle = os.open(path, os.O_RDONLY)
    try:
        place = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
    finally:
        os.close(handle)
    if place in (None, ctypes.c_void_p(-1).value):
        return pages, pages
    there = ctypes.create_string_buffer(pages)
    failed = libc.mincore(place, size, there)
    libc.munmap(place, size)
    return (pages if failed else sum(byte & 1 for byte in there.raw[:pages])), pages


def sustained(order: Dict[str, Any], protocol: Protocol, beats: Beats) -> Dict[str, Any]:
    """Inferences without a pause, minute by minute: what a board does once it is as hot as it gets."""
    opened = open_all(order, protocol)
    glances = conditions.Glances(str(order["tree"]))
    gc.disable()
    start = time.perf_counter()
    minutes: List[Dict[str, Any]] = []
    while True:
        end = min(start + (len(minutes) + 1) * _MINUTE, start + protocol.sustained_seconds)
        times, count = array("q"), 0
        while time.perf_counter() < end or not times:
            block = time.perf_counter() + BLOCK_SECONDS
            first = len(times)
            while time.perf_counter() < block and len(times) - first < _TIMED_A_BLOCK:
                times.extend(time_some(opened.shots, 1, count))
                count += 1
            while time.perf_counter() < block:
                time_some(opened.shots, 8, count)
                count += 8
            beats.tell(
                {"stage": "sustained", "block": len(minutes), "samples": count, "p50_ns": median(list(times[first:]))}
            )
        minutes.append(_minute(len(minutes), times, count, glances))
        if time.perf_counter() - start >= protocol.sustained_seconds:
            return {"found": minutes}


def _minute(number: int, times: Any, count: int, glances: conditions.Glances) -> Dict[str, Any]:
    ordered, seen = sorted(times), glances.look()
    return {
        "minute": number,
        "p50_ns": ordered[(len(ordered) - 1) // 2],
        "p90_ns": ordered[-(-len(ordered) * 9 // 10) - 1],
        "count": count,
        **{name: seen[name] for name in ("temperature_c", "mhz", "throttled")},
    }


def energy(order: Dict[str, Any], protocol: Protocol, beats: Beats) -> Dict[str, Any]:
    """The board's power under load, times how long an inference takes. The sensor is read by a thread: its cost is in the sum."""
    opened = open_all(order, protocol)
    watts: List[float] = []
    done = threading.Event()

    def read() -> None:
        while not done.wait(_RAIL_SECONDS):
            now = conditions.rails(tree=str(order["tree"]))
            if now is not None:
                watts.append(now)

    gc.disable()
    reader = threading.Thread(target=read)
    start = time.perf_counter()
    reader.start()
    count = 0
    seconds = min(ENERGY_SECONDS, protocol.seconds)
    while time.perf_counter() - start < seconds or not count:
        time_some(opened.shots, 8, count)
        count += 8
        beats.tell({"stage": "energy", "samples": count})
    spent = time.perf_counter() - start
    done.set()
    reader.join()
    if not watts:
        return {"found": None, "note": "the sensor gave no reading while the model ran"}
    mean = sum(watts) / len(watts)
    found = {
        "source": "vcgencmd pmic_read_adc: the sum of the rails behind the power chip, without what USB devices draw",
        "joules_per_inference": mean * spent / count,
        "watts": mean,
        "seconds": spent,
        "inferences": count,
    }
    return {"found": found}
