"""Before anything is measured: who else is at work on this board, and is it cool enough to begin."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Dict, Optional

from . import conditions

_LOOK_SECONDS = 0.2
_WAIT_SECONDS = 1.0


def look(tree: str = "/") -> Dict[str, Any]:
    """`edgepack.report.Preflight` but its gate. Nothing of ours runs while the others' share of the cores is read."""
    before = conditions.busy_ticks(tree)
    time.sleep(_LOOK_SECONDS)
    after = conditions.busy_ticks(tree)
    busy = None
    if before and after and after[1] > before[1]:
        busy = (after[0] - before[0]) / (after[1] - before[1])
    return {
        "busy": busy,
        "kernel": conditions.kernel(tree),
        "firmware": conditions.firmware(tree),
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
    }


class Cooler:
    """Waits before each process until the board is as cool as was asked, all waits together within one deadline."""

    def __init__(self, wanted_c: float, seconds: float, tree: str = "/", pause: float = _WAIT_SECONDS) -> None:
        self._wanted, self._left, self._tree, self._pause = wanted_c, seconds, tree, pause
        self._waited, self._reached = 0.0, True
        self._heat: Optional[float] = None

    def wait(self, tell: Callable[[float], None]) -> None:
        """tell: what it reads while it waits, °C. A board without a thermometer is not waited for."""
        if self._wanted <= 0:
            return
        while True:
            self._heat = conditions.read(self._tree)["temperature_c"]
            if self._heat is None or self._heat <= self._wanted:
                return
            if self._left <= 0:
                self._reached = False
                return
            tell(self._heat)
            pause = min(self._pause, self._left)
            time.sleep(pause)
            self._left -= pause
            self._waited += pause

    def gate(self) -> Optional[Dict[str, Any]]:
        """`edgepack.report.Gate`; None where nothing could be waited for."""
        if self._wanted <= 0 or self._heat is None:
            return None
        return {
            "wanted_c": self._wanted,
            "waited_s": round(self._waited, 3),
            "temperature_c": self._heat,
            "reached": self._reached,
        }
