"""What a board says of its own state: clock, governor, heat, throttling, power, load, memory. None where it does not tell."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import time
from typing import Any, Dict, List, Optional

_MAX_CORES = 64
_CPUS = "sys/devices/system/cpu"
_UNDERVOLTAGE_NOW = 1
_ENDLESS = 32
"""A machine with more thermal zones than this is none that needs all of them."""


def read(tree: str = "/", vcgencmd: Optional[str] = None) -> Dict[str, Any]:
    """Conditions as `edgepack.report.Conditions`, from the `/proc` and `/sys` below `tree`.

    vcgencmd: the Raspberry Pi's tool, by default the one on the PATH; throttled is its `get_throttled` bit field
    """
    cpus, memory = os.path.join(tree, _CPUS), _table(os.path.join(tree, "proc/meminfo"))
    zones = _zones(tree)
    throttled = _throttled(tree, vcgencmd)
    governors = [_text(path) or "" for path in _per_core(cpus, "scaling_governor")]
    return {
        "governor": governors[0] or None if governors else None,
        "governors": governors if len(set(governors)) > 1 else [],
        "mhz": _clocks(cpus),
        "mhz_limits": _limits(cpus),
        "temperature_c": _hottest(zones),
        "temperatures_c": dict(list(zones.items())[:_ENDLESS]),
        "throttled": throttled,
        "undervoltage": _undervoltage(tree, throttled),
        "power": _power(tree),
        "load_1m": _load(os.path.join(tree, "proc/loadavg")),
        "memory_available_kb": memory.get("MemAvailable"),
        "page_cache_kb": memory.get("Cached"),
        "swapped_pages": _swapped(tree),
        "uptime_s": _uptime(tree),
    }


class Glances:
    """The few numbers that are read between blocks: from files, and the tool asked at most once a second.

    A process that is started between blocks would cool the caches, and on a small board the CPU, of what is measured.
    """

    def __init__(self, tree: str = "/", vcgencmd: Optional[str] = None) -> None:
        self._tree, self._vcgencmd = tree, vcgencmd
        self._asked = float("-inf")
        self._throttled: Optional[int] = None
        self._zone = _cpu_zone(tree)
        self._clocks = _per_core(os.path.join(tree, _CPUS), "scaling_cur_freq")

    def look(self) -> Dict[str, Any]:
        """temperature_c, mhz, throttled and load_1m as in `edgepack.report.Block`."""
        now = time.monotonic()
        if now - self._asked > 1:
            self._asked, self._throttled = now, _throttled(self._tree, self._vcgencmd)
        heat = _number(self._zone) if self._zone else None
        clocks = (_number(path) for path in self._clocks)
        return {
            "temperature_c": None if heat is None else heat / 1000,
            "mhz": [khz // 1000 for khz in clocks if khz is not None],
            "throttled": self._throttled,
            "load_1m": _load(os.path.join(self._tree, "proc/loadavg")),
        }


def firmware(tree: str = "/", vcgencmd: Optional[str] = None) -> str:
    """The version of the board's firmware, one line; empty where it does not tell."""
    said = _ask(_tool(tree, vcgencmd), "version")
    if said:
        return " ".join(line for line in said.splitlines() if "Copyright" not in line)[:200]
    return _text(os.path.join(tree, "sys/class/dmi/id/bios_version")) or ""


def kernel(tree: str = "/") -> str:
    """Release and build of the running kernel."""
    return (_text(os.path.join(tree, "proc/version")) or "")[:300]


def busy_ticks(tree: str = "/") -> Optional[List[int]]:
    """(ticks in which the cores worked, all ticks) since boot."""
    for line in (_text(os.path.join(tree, "proc/stat")) or "").splitlines():
        words = line.split()
        if words[:1] == ["cpu"] and len(words) >= 6:
            ticks = [int(word) for word in words[1:9]]
            return [sum(ticks) - ticks[3] - ticks[4], sum(ticks)]
    return None


def rails(vcgencmd: Optional[str] = None, tree: str = "/") -> Optional[float]:
    """Watts over all rails that a Raspberry Pi 5's power chip measures, or None on another board."""
    said = _ask(_tool(tree, vcgencmd), "pmic_read_adc") or ""
    amperes = dict(re.findall(r"(\w+)_A current\(\d+\)=([\d.]+)A", said))
    volts = dict(re.findall(r"(\w+)_V volt\(\d+\)=([\d.]+)V", said))
    both = amperes.keys() & volts.keys()
    return sum(float(amperes[name]) * float(volts[name]) for name in both) if both else None


def _tool(tree: str, vcgencmd: Optional[str]) -> Optional[str]:
    return vcgencmd or shutil.which("vcgencmd", path=None if tree == "/" else os.path.join(tree, "usr/bin"))


def _text(path: str) -> Optional[str]:
    """A file's text. A file in /sys may be there and still refuse to be read: the board does not tell."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16).strip() or None
    except OSError:
        return None


def _number(path: str) -> Optional[int]:
    text = _text(path)
    return int(text) if text is not None and re.fullmatch(r"-?\d+", text) else None


def _table(path: str) -> Dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+):?\s+(\d+)", _text(path) or "", re.MULTILINE)}


def _per_core(cpus: str, name: str) -> List[str]:
    paths = (os.path.join(cpus, f"cpu{core}/cpufreq", name) for core in range(_MAX_CORES))
    return [path for path in paths if os.path.exists(path)]


def _clocks(cpus: str) -> List[int]:
    """MHz of each core now, in the order of the cores."""
    clocks = (_number(path) for path in _per_core(cpus, "scaling_cur_freq"))
    return [khz // 1000 for khz in clocks if khz is not None]


def _limits(cpus: str) -> List[int]:
    both = [_number(os.path.join(cpus, "cpu0/cpufreq", f"scaling_{end}_freq")) for end in ("min", "max")]
    return [khz // 1000 for khz in both if khz is not None] if None not in both else []


def _zones(tree: str) -> Dict[str, float]:
    """°C of every thermal zone by its type, those that name a CPU first."""
    found: Dict[str, float] = {}
    for zone in sorted(glob.glob(os.path.join(glob.escape(tree), "sys/class/thermal/thermal_zone*"))):
        value = _number(os.path.join(zone, "temp"))
        name = _text(os.path.join(zone, "type")) or os.path.basename(zone)
        if value is not None:
            found[name if name not in found else f"{name} {os.path.basename(zone)}"] = value / 1000
    return dict(sorted(found.items(), key=lambda item: "cpu" not in item[0].lower()))


def _hottest(zones: Dict[str, float]) -> Optional[float]:
    """°C of the first zone that names a CPU, else of the hottest zone."""
    named = [value for name, value in zones.items() if "cpu" in name.lower()]
    return named[0] if named else max(zones.values(), default=None)


def _cpu_zone(tree: str) -> Optional[str]:
    """The file to look at between blocks: that of the CPU, else of the zone that is hottest now."""
    best, heat = None, float("-inf")
    for zone in sorted(glob.glob(os.path.join(glob.escape(tree), "sys/class/thermal/thermal_zone*"))):
        value = _number(os.path.join(zone, "temp"))
        if value is None:
            continue
        if "cpu" in (_text(os.path.join(zone, "type")) or "").lower():
            return os.path.join(zone, "temp")
        if value > heat:
            best, heat = os.path.join(zone, "temp"), value
    return best


def _throttled(tree: str, vcgencmd: Optional[str]) -> Optional[int]:
    """The firmware's bits, from the kernel's file where there is one, else from the tool."""
    text = _text(os.path.join(tree, "sys/devices/platform/soc/soc:firmware/get_throttled"))
    if text is None:
        text = _ask(_tool(tree, vcgencmd), "get_throttled")
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]+)", text or "")
    return int(found.group(1), 16) if found else None


def _undervoltage(tree: str, throttled: Optional[int]) -> Optional[bool]:
    """What the Raspberry Pi's voltage sensor says, else the firmware's bit."""
    for sensor in sorted(glob.glob(os.path.join(glob.escape(tree), "sys/class/hwmon/hwmon*"))):
        if _text(os.path.join(sensor, "name")) == "rpi_volt":
            alarm = _number(os.path.join(sensor, "in0_lcrit_alarm"))
            if alarm is not None:
                return alarm != 0
    return None if throttled is None else bool(throttled & _UNDERVOLTAGE_NOW)


def _power(tree: str) -> Optional[str]:
    """`battery` where one is discharging, `mains` where a supply is on line or a battery charges."""
    found = None
    for supply in sorted(glob.glob(os.path.join(glob.escape(tree), "sys/class/power_supply/*"))):
        if _text(os.path.join(supply, "type")) == "Battery":
            if _text(os.path.join(supply, "status")) == "Discharging":
                return "battery"
            found = "mains"
        elif _number(os.path.join(supply, "online")) == 1:
            found = "mains"
    return found


def _swapped(tree: str) -> Optional[int]:
    moved = _table(os.path.join(tree, "proc/vmstat"))
    return moved["pswpin"] + moved["pswpout"] if "pswpin" in moved and "pswpout" in moved else None


def _uptime(tree: str) -> Optional[int]:
    words = (_text(os.path.join(tree, "proc/uptime")) or "").split()
    return int(float(words[0])) if words and re.fullmatch(r"[\d.]+", words[0]) else None


def _ask(tool: Optional[str], question: str) -> Optional[str]:
    if tool is None:
        return None
    try:
        done = subprocess.run([tool, question], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("ascii", "replace").strip() if done.returncode == 0 else None


def _load(path: str) -> Optional[float]:
    words = (_text(path) or "").split()
    return float(words[0]) if words and re.fullmatch(r"[\d.]+", words[0]) else None
