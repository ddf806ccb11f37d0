"""What a board says of its own state: clock, governor, heat, throttling, load, memory. None where it does not tell."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
from typing import Any, Dict, List, Optional

_MAX_CORES = 64


def read(tree: str = "/", vcgencmd: Optional[str] = None) -> Dict[str, Any]:
    """Conditions as `edgepack.report.Conditions`, from the `/proc` and `/sys` below `tree`.

    vcgencmd: the Raspberry Pi's tool, by default the one on the PATH; throttled is its `get_throttled` bit field
    """
    cpus = os.path.join(tree, "sys/devices/system/cpu")
    return {
        "governor": _text(os.path.join(cpus, "cpu0/cpufreq/scaling_governor")),
        "mhz": _clocks(cpus),
        "temperature_c": _temperature(os.path.join(tree, "sys/class/thermal")),
        "throttled": _throttled(tree, vcgencmd),
        "load_1m": _load(os.path.join(tree, "proc/loadavg")),
        "memory_available_kb": _available_kb(os.path.join(tree, "proc/meminfo")),
    }


def _text(path: str) -> Optional[str]:
    """A file's one line. A file in /sys may be there and still refuse to be read: the board does not tell."""
    try:
        with open(path) as file:
            return file.read(4096).strip() or None
    except OSError:
        return None


def _number(path: str) -> Optional[int]:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def _clocks(cpus: str) -> List[int]:
    """MHz of each core now, in the order of the cores."""
    clocks = (_number(os.path.join(cpus, f"cpu{core}/cpufreq/scaling_cur_freq")) for core in range(_MAX_CORES))
    return [khz // 1000 for khz in clocks if khz is not None]


def _temperature(zones: str) -> Optional[float]:
    """°C of the zone that names a CPU, else of the hottest zone."""
    found: List[float] = []
    for zone in sorted(glob.glob(os.path.join(glob.escape(zones), "thermal_zone*"))):
        value = _number(os.path.join(zone, "temp"))
        if value is None:
            continue
        if "cpu" in (_text(os.path.join(zone, "type")) or "").lower():
            return value / 1000
        found.append(value / 1000)
    return max(found, default=None)


def _throttled(tree: str, vcgencmd: Optional[str]) -> Optional[int]:
    """The firmware's bits, from the kernel's file where there is one, else from the tool."""
    text = _text(os.path.join(tree, "sys/devices/platform/soc/soc:firmware/get_throttled"))
    if text is None:
        tool = vcgencmd or (shutil.which("vcgencmd") if tree == "/" else None)
        text = _ask(tool) if tool else None
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)", text or "")
    return int(found.group(1), 16) if found else None


def _ask(tool: str) -> Optional[str]:
    try:
        done = subprocess.run([tool, "get_throttled"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("ascii", "replace").strip() if done.returncode == 0 else None


def _load(path: str) -> Optional[float]:
    words = (_text(path) or "").split()
    return float(words[0]) if words and re.fullmatch(r"[\d.]+", words[0]) else None


def _available_kb(path: str) -> Optional[int]:
    found = re.search(r"^MemAvailable:\s*(\d+)", _text(path) or "", re.MULTILINE)
    return int(found.group(1)) if found else None
