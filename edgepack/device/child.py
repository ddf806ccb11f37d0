"""A pass over a model in a fresh process of its runtime's own Python: it may crash or hang, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

from . import run as models
from .faults import Fault

_STDERR = 2000
_BOOT = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2]).child()"


def ask(python: str, module: str, order: Dict[str, Any], limit: float, title: str) -> Dict[str, Any]:
    """Run `module.child()` and give it `order`; its answer. limit: seconds. Raises Fault naming how it ended."""
    package = __package__ or ""
    root = str(Path(__file__).parents[len(package.split("."))])
    process = subprocess.Popen(
        [python, "-I", "-c", _BOOT, root, module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with process:
        try:
            out, err = process.communicate(json.dumps(order).encode(), timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise Fault(
                "board", f"{title} gave no answer within {limit:.0f} s and was killed", advice="ask for less of it"
            ) from None
        except BaseException:  # the agent itself is being stopped: its child must not go on alone
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return _answer(title, process.returncode, out, err)


def _answer(title: str, code: int, out: bytes, err: bytes) -> Dict[str, Any]:
    said = err.decode("utf-8", "replace")[-_STDERR:].strip()
    if code < 0:
        raise Fault("board", f"{title} was killed by signal {-code}", expected="exit 0", advice=said)
    try:
        answer: Dict[str, Any] = json.loads(out)
    except ValueError:
        raise Fault(
            "board", f"{title} ended with exit code {code}: {said or 'it said nothing'}", expected="exit 0"
        ) from None
    if "error" in answer:
        raise Fault("board", f"{title}: {answer['error']}", advice="push the bundle again, or try another variant")
    return answer


def serve(work: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
    """A child's whole life: its order as JSON on standard input, its answer on standard output."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a runtime prints must not mix with the answer
    order = json.load(sys.stdin)
    try:
        answer = work(order)
    except models.ModelError as error:
        answer = {"error": str(error)}
    with out:
        json.dump(answer, out)
