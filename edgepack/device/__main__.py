"""One verb a run: `python3 agent.pyz VERB ROOT SECONDS`, JSON on standard input, one line of JSON on standard output.

An error that has a name is answered as {"error": {"kind", "what", "expected", "advice"}} with exit code 1. Anything else is our
bug: a traceback on standard error. No daemon: an agent starts, does one thing and ends, at the latest after SECONDS.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from typing import Any, Dict

from .faults import Fault
from .receive import Stream
from .requests import (
    ActivateRequest,
    AuthorizeRequest,
    FactsRequest,
    InstallRequest,
    ReceiveRequest,
    RemoveRequest,
    RollbackRequest,
    RuntimeRequest,
    SelftestRequest,
    TrustRequest,
    decode,
)

_ADVICE = {
    errno.ENOSPC: "free some space on the board, or give the target another `root`",
    errno.EDQUOT: "free some space on the board, or give the target another `root`",
    errno.EROFS: "the board's file system is read-only: look at its disk, or give the target another `root`",
    errno.EACCES: "give the target a `root` that its user may write to",
    errno.EPERM: "give the target a `root` that its user may write to",
    errno.EIO: "the board's disk is failing",
}
_ARRIVAL = 600
"""Seconds in which an agent arrives at the door."""


def main() -> None:
    signal.signal(signal.SIGALRM, _out_of_time)
    os.umask(0o022)
    try:
        restricted = sys.argv[1] == "serve"
        if restricted:
            from . import door

            signal.alarm(_ARRIVAL)
            sys.argv = door.enter(sys.argv, os.environ.get("SSH_ORIGINAL_COMMAND", ""))
        signal.alarm(_seconds(sys.argv))
        reply = answer(sys.argv[1], _root(sys.argv[2] if len(sys.argv) > 2 else ""), Stream(0), restricted)
    except Fault as fault:
        reply = {"error": {name: getattr(fault, name) for name in ("kind", "what", "expected", "advice")}}
    except OSError as error:
        reply = {"error": _explain(error, sys.argv[1])}
    sys.stdout.write(json.dumps(reply, separators=(",", ":")) + "\n")
    sys.stdout.flush()
    sys.exit(1 if "error" in reply else 0)


def answer(verb: str, root: str, stream: Stream, restricted: bool = False) -> Dict[str, Any]:
    """Do what a verb asks. Modules are imported by need: a Pi Zero takes a second to compile all of them.

    restricted: whoever asks may only do what the door allows
    """
    raw = _request(stream)
    if os.path.exists(os.path.join(root, "tuning.json")):
        from . import tuning

        tuning.restore_if_left(root)
    if restricted:
        from . import door

        door.ensure_allowed(root, verb, raw)
    if verb == "facts":
        from . import facts

        return facts.facts(root, decode(FactsRequest, raw))
    if verb == "receive":
        from . import receive

        return receive.receive(root, decode(ReceiveRequest, raw), stream)
    if verb == "runtime":
        from . import environment

        return environment.provide(root, decode(RuntimeRequest, raw))
    if verb == "install":
        from . import release

        return release.install(root, decode(InstallRequest, raw))
    if verb in ("selftest", "judge"):
        return _selftest(verb, root, raw)
    if verb == "status":
        return _status(root)
    if verb == "trust":
        from . import trust

        return trust.enrol(root, decode(TrustRequest, raw))
    if verb == "authorize":
        from . import door

        return door.authorize(root, decode(AuthorizeRequest, raw), sys.argv[0])
    if verb in ("bench", "bench-pair"):
        from . import bench

        return (bench.run if verb == "bench" else bench.run_pair)(root, raw, _say)
    if verb == "scenario":
        from . import scenario

        return scenario.run(root, raw)
    if verb == "accuracy":
        from . import accuracy

        return accuracy.run(root, raw)
    return _switch(verb, root, raw)


def _say(beat: Dict[str, Any]) -> None:
    """How far a long verb is: a line before the answer. Whoever asked and is gone ends it with the error of a closed pipe."""
    sys.stdout.write(json.dumps({"beat": beat}, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def _request(stream: Stream) -> Any:
    try:
        return json.loads(stream.line() or b"{}")
    except (ValueError, RecursionError):
        raise Fault("bug", "the request cannot be read", expected="one line of JSON") from None


def _switch(verb: str, root: str, raw: Any) -> Dict[str, Any]:
    from . import activate

    if verb == "activate":
        return activate.activate(root, decode(ActivateRequest, raw))
    if verb == "rollback":
        return activate.rollback(root, decode(RollbackRequest, raw))
    if verb == "remove":
        return activate.remove(root, decode(RemoveRequest, raw))
    raise Fault("bug", f"the agent knows no verb {verb!r}")


def _selftest(verb: str, root: str, raw: Any) -> Dict[str, Any]:
    from . import release, selftest, store

    if verb == "judge":
        return selftest.judge(raw)
    request = decode(SelftestRequest, raw)
    record = release.require(root, request.name, request.release)
    folder = store.release_folder(root, request.name, request.release)
    if not release.intact(root, record, thorough=True):
        raise Fault("trust", f"a file of {record.name} {record.version} changed", advice="push the bundle again")
    manifest = release.read_manifest(os.path.join(folder, "manifest.json"))
    variants = [release.variant(manifest, id) for id in request.variants or record.variants]
    return {"selftests": selftest.run(root, folder, variants, record.runtimes, request.seconds)}


def _status(root: str) -> Dict[str, Any]:
    from . import facts, journal

    health = journal.check(root)
    releases = facts.releases_of(root, "", True)
    return {"releases": releases, "log_entries": health.entries, "log_intact": health.intact}


def _root(given: str) -> str:
    return os.path.abspath(os.path.expanduser(given or "~/.edgepack"))


def _seconds(arguments: Any) -> int:
    return max(1, int(float(arguments[3]))) if len(arguments) > 3 else 3600


def _out_of_time(number: int, frame: Any) -> None:
    raise Fault(
        "board", f"the agent's {sys.argv[1]} did not end in time", advice="run this again: it goes on where it was"
    )


def _explain(error: OSError, verb: str) -> Dict[str, str]:
    where = f": {error.filename}" if error.filename else ""
    return {
        "kind": "board",
        "what": f"{verb} failed on the board: {error.strerror or error}{where}",
        "expected": "",
        "advice": _ADVICE.get(error.errno or 0, "look at the board's disk and system log"),
    }


if __name__ == "__main__":
    main()
