"""A fresh process of a runtime's own Python: its order in, how far it is while it works, one answer out.

It may crash or hang, and leaves nothing behind; it ends when the agent does.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, NamedTuple

from . import run as models
from .faults import Fault

Say = Callable[[Dict[str, Any]], None]
START_SECONDS = 180.0
"""What a child may take to import its runtime, open the model and run it once, before its capped part begins."""
BEAT_SECONDS = 0.25
_SET_PDEATHSIG = 1
_STDERR = 2000
_BOOT = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).child()"


class Answer(NamedTuple):
    """said: the end of what it wrote to standard error"""

    reply: Dict[str, Any]
    said: str


class Child:
    """module: whose `child()` is run; seconds: how long all of it may take; advice: for when it takes longer"""

    def __init__(self, python: str, module: str, title: str, seconds: float, advice: str) -> None:
        self._python, self._module, self._title = python, module, title
        self._seconds, self._advice = seconds, advice

    def ask(self, order: Dict[str, Any], beat: Say = lambda beat: None) -> Answer:
        """Its answer. Raises Fault naming the process and how it ended."""
        where = str(Path(__file__).parents[len((__package__ or "").split("."))])
        with (
            tempfile.TemporaryFile() as err,
            subprocess.Popen(
                [self._python, "-I", "-c", _BOOT, where, self._module],
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
            said = err.read().decode("utf-8", "replace").strip()
            return Answer(self._reply(process.returncode, out, said), said)

    def _talk(self, process: Any, order: bytes, beat: Say) -> bytes:
        """Hand over the order and listen to the end; what a child says before its last line are beats."""
        end = time.monotonic() + self._seconds
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
            "board", f"{self._title} gave no answer within {self._seconds:.0f} s and was killed", advice=self._advice
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
                "board", f"{self._title}: {reply['error']}", advice="push the bundle again, or try another variant"
            )
        return reply


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Beats:
    """Tells how far a child is, each stage once and then a few times a second: a line costs a wake-up of the agent."""

    def __init__(self, answer: Any) -> None:
        self._answer, self._last, self._stage = answer, float("-inf"), ""

    def tell(self, beat: Dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._last >= BEAT_SECONDS or beat["stage"] != self._stage:
            self._last, self._stage = now, str(beat["stage"])
            self._answer.write(json.dumps({"beat": beat}, separators=(",", ":")) + "\n")
            self._answer.flush()


def serve(work: Callable[[Dict[str, Any], Beats], Dict[str, Any]]) -> None:
    """A child's whole life: its order as a line of JSON on standard input, its answer as the last one on standard output."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints must not mix with the answer
    order = json.loads(sys.stdin.readline())
    _die_with(int(order["parent"]))
    with answer:
        try:
            reply = work(order, Beats(answer))
        except models.ModelError as error:
            reply = {"error": str(error)}
        json.dump(reply, answer)


def _die_with(parent: int) -> None:
    """End when the agent does, even where that is killed: work that nobody waits for only heats the board."""
    libc = ctypes.CDLL(None, use_errno=True)
    if hasattr(libc, "prctl"):
        libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
