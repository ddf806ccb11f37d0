"""What one process cost, by the operating system's own accounting (wait4)."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """wall, cpu: seconds; peak: MiB of the largest process"""

    wall: float
    cpu: float
    peak: float


@dataclass(frozen=True)
class Ended:
    """cost: of the process and of the children it waited for; code: its exit code, negative for a signal"""

    cost: Cost
    code: int


def account(command: list[str], log: Path, env: dict[str, str], cwd: Path, limit: float) -> Ended:
    """Run one process to its end, what it prints to `log` and `log`.err; it is killed after `limit` seconds (code −9)."""
    start = time.perf_counter()
    with log.open("wb") as out, Path(f"{log}.err").open("wb") as err:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env={**os.environ, **env}, cwd=cwd
        )
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            wall = time.perf_counter() - start
            if pid:
                break
            if wall > limit:
                process.kill()
            time.sleep(0.02)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), process.returncode)
