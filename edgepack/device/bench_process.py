"""One fresh process of a runtime's Python: its order in, how far it is while it works, one answer out."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict

from .faults import Fault

Say = Callable[[Dict[str, Any]], None]
START_SECONDS = 180.0
"""What a child may take to import its runtime, open the model and run it once, before its capped part begins."""
_STDERR = 2000
_BOOT = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).child()"


class Child:
    """seconds: how long the capped part of its work is"""

    def __init__(self, python: str, title: str, seconds: float) -> None:
        self._python, self._title = python, title
        self._limit = START_SECONDS + 2 * seconds

    def ask(self, order: Dict[str, Any], beat: Say) -> Dict[str, Any]:
        """Its answer. Raises Fault naming the process and how it ended."""
        package = __package__ or ""
        where = str(Path(__file__).parents[len(package.split("."))])
        with (
            tempfile.TemporaryFile() as err,
            subprocess.Popen(
                [self._python, "-I", "-c", _BOOT, where, f"{package}.bench_child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                start_new_session=True,
            ) as process,
        ):
            try:
                out = self._talk(process, json.dumps({**order, "parent": os.getpid()}).encode(), beat)
            except BaseException:  # the agent itself is being stopped: its child must not go on alone
                os.killpg(process.pid, signal.SIGKILL)
                raise
            process.wait()
            err.seek(max(0, err.seek(0, os.SEEK_END) - _STDERR))
            return self._reply(process.returncode, out, err.read().decode("utf-8", "replace").strip())

    def _talk(self, process: Any, order: bytes, beat: Say) -> bytes:
        """Hand over the order and listen to the end; what a child says before its last line are beats."""
        end = time.monotonic() + self._limit
        try:
            process.stdin.write(order + b"\n")
            process.stdin.close()
        except BrokenPipeError:
            pass  # it died already: how it ended says why
        said = b""
        while True:
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise self._hangs()
            data = os.read(process.stdout.fileno(), 1 << 16)
            if not data:
                return said
            said += data
            if b"\n" in data:
                *lines, said = said.split(b"\n")
                for line in lines:
                    if line.startswith(b'{"beat":'):
                        beat(json.loads(line)["beat"])
                    else:
                        said = line + b"\n" + said

    def _hangs(self) -> Fault:
        return Fault(
            "board",
            f"{self._title} gave no answer within {self._limit:.0f} s and was killed",
            advice="measure with fewer samples or a smaller model; a process that crashed may also hang under emulation",
        )

    def _reply(self, code: int, out: bytes, said: str) -> Dict[str, Any]:
        if code < 0:
            raise Fault("board", f"{self._title} was killed by {_signal_name(-code)}", expected="exit 0", advice=said)
        try:
            reply: Dict[str, Any] = json.loads(out)
        except ValueError:
            raise Fault(
                "board", f"{self._title} ended with exit code {code}: {said or 'it said nothing'}", expected="exit 0"
            ) from None
        if "error" in reply:
            raise Fault(
                "board", f"{self._title}: {reply['error']}", advice="push the bundle again, or bench another variant"
            )
        reply["delegates"] = [*reply.get("delegates", ()), *(["XNNPACK"] if "XNNPACK delegate" in said else [])]
        return reply


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
