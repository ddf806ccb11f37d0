"""Switching: one atomic link, a health check declared by the operator, and the way back."""

from __future__ import annotations

import os
import subprocess
from typing import Any, Dict, Tuple

from . import collect, facts, journal, release, store, trust
from .admission import version_key
from .faults import Fault
from .requests import ActivateRequest, RemoveRequest, RollbackRequest
from .store import Line

_OUTPUT = 2000


def activate(root: str, request: ActivateRequest) -> Dict[str, Any]:
    """Point `current/NAME` to a release that is ready; back again when the health command fails.

    Raises Fault on a file system without links, when the active release is no longer `expected`, where the release's signature
    or its record forbids it (for one a version below the highest ever active), and where a file of the release changed.
    """
    with store.locked(root, "activate", request.who):
        line = store.read_lines(root).get(request.name, Line())
        before = store.active(root, request.name)
        record = _checked(root, request, line, before)
        if before == request.release and line.history[-1:] == (before,):
            return {"outcome": "unchanged", "previous": _before(line), "reason": "it is already active"}
        confirmed = line.history[-1] if line.history else ""
        highest = max(line.highest, record.version, key=version_key)
        store.write_line(root, request.name, line._replace(highest=highest, trial=request.release))
        journal.append(root, "switch", who=request.who, name=request.name, before=before, after=request.release)
        _switch(root, request.name, request.release)
        reason = _hooks(root, request.name, request.restart, request.health, request.health_seconds)
        if reason:
            return _switch_back(root, request, line._replace(highest=highest), confirmed, reason)
        history = (*(one for one in line.history if one != request.release), request.release)[-max(request.keep, 1) :]
        store.write_line(root, request.name, Line(history, highest, ""))
        journal.append(root, "confirm", who=request.who, name=request.name, release=request.release, verdict="healthy")
        collect.collect(root, request.name)
    return {"outcome": "activated", "previous": confirmed, "reason": "health passed" if request.health else ""}


def rollback(root: str, request: RollbackRequest) -> Dict[str, Any]:
    """Point `current/NAME` back to the release confirmed before the one to `leave`. Doing it again changes nothing.

    Raises Fault where there is none, or where a file of it changed.
    """
    with store.locked(root, "rollback", request.who):
        line = store.read_lines(root).get(request.name, Line())
        before = store.active(root, request.name)
        if request.leave and before != request.leave:
            return {"outcome": "unchanged", "release": before, "reason": f"{request.leave} is not active any more"}
        if line == Line() and not before:
            known = store.names_in(os.path.join(root, "current"))
            raise Fault(
                "input",
                f"this board never ran a release of {request.name}",
                expected=" or ".join(known) or "a name that it runs a release of, and it runs none",
                advice="edgepack status shows what is there",
            )
        earlier = [one for one in line.history if one != before and release.read(root, request.name, one) is not None]
        if not earlier:
            raise Fault(
                "gate",
                f"there is no release of {request.name} before {before or 'the first'} on the board",
                expected="a release that was active before and is still kept",
                advice="push the bundle that is wanted, with --downgrade where its version is lower",
            )
        target = earlier[-1]
        _ensure_whole(root, release.require(root, request.name, target))
        journal.append(root, "switch", who=request.who, name=request.name, before=before, after=target)
        history = tuple(one for one in line.history if one != before)
        # the state first: killed in between, the link still names a release that is on trial, and this runs again
        store.write_line(root, request.name, Line(history, line.highest, ""))
        _switch(root, request.name, target)
        reason = _hooks(root, request.name, request.restart, request.health, request.health_seconds)
        verdict = reason or "rolled back"
        journal.append(root, "rollback", who=request.who, name=request.name, release=target, verdict=verdict)
    return {"outcome": "rolled-back", "release": target, "left": before, "reason": reason}


def remove(root: str, request: RemoveRequest) -> Dict[str, Any]:
    """Remove one release of a name, or all of them and its link; the highest version stays remembered.

    Raises Fault for the active release on its own.
    """
    with store.locked(root, "remove", request.who):
        line = store.read_lines(root).get(request.name, Line())
        if request.release and store.active(root, request.name) == request.release:
            raise Fault("input", f"{request.release} is active", advice="roll back first, or remove the whole name")
        if request.release:
            history: Tuple[str, ...] = tuple(one for one in line.history if one != request.release)
            gone = [request.release]
        else:
            history, gone = (
                (),
                ["sha256:" + one for one in store.names_in(os.path.join(root, "releases", request.name))],
            )
            _unlink(root, request.name)
        if line != Line():
            store.write_line(root, request.name, line._replace(history=history, trial=""))
        for digest in gone:
            store.discard(store.release_folder(root, request.name, digest))
        folder = os.path.join(root, "releases", request.name)
        if os.path.isdir(folder) and not os.listdir(folder):
            os.rmdir(folder)
        journal.append(root, "remove", who=request.who, name=request.name, release=request.release or "all")
        collect.collect(root, request.name)
    return {"removed": gone}


def _checked(root: str, request: ActivateRequest, line: Line, before: str) -> release.Record:
    """The record of the release that may be activated."""
    if before not in (request.expected, request.release):
        other = journal.last_who(root, request.name)
        raise Fault(
            "board",
            f"the active release of {request.name} changed since this push began: it is {before or 'none'} now"
            + (f", switched by {other}" if other else ""),
            expected=request.expected or "none",
            advice="somebody else pushed to this board; look at edgepack status, then push again",
        )
    record = release.require(root, request.name, request.release)
    trust.admit(root, record.subject, record.record, record.signature, line.highest, request.downgrade)
    facts.ensure_links(root)
    _ensure_whole(root, record)
    return record


def _ensure_whole(root: str, record: release.Record) -> None:
    if not release.intact(root, record, thorough=True):
        raise Fault(
            "trust",
            f"a file of {record.name} {record.version} on the board is missing or changed, or its runtime is gone",
            expected="every file to hash to what the manifest says",
            advice="push the bundle again",
        )


def _before(line: Line) -> str:
    return line.history[-2] if len(line.history) > 1 else ""


def _switch(root: str, name: str, digest: str) -> None:
    """Replace the link in one step (`ln -sfn` removes and creates, and can be caught in between)."""
    link = store.current_link(root, name)
    folder = os.path.dirname(link)
    os.makedirs(folder, exist_ok=True)
    store.sweep(folder)
    aside = os.path.join(folder, f".{name}")
    os.symlink(os.path.join("..", "releases", name, store.hex_of(digest)), aside)
    os.replace(aside, link)
    store.sync_folder(folder)


def _unlink(root: str, name: str) -> None:
    link = store.current_link(root, name)
    if os.path.lexists(link):
        os.unlink(link)
        store.sync_folder(os.path.dirname(link))


def _switch_back(root: str, request: ActivateRequest, line: Line, to: str, reason: str) -> Dict[str, Any]:
    if to and to != request.release:
        _switch(root, request.name, to)
    else:
        _unlink(root, request.name)
    store.write_line(root, request.name, line._replace(trial=""))
    again = _hooks(root, request.name, request.restart, "", request.health_seconds) if to else ""
    journal.append(root, "switch-back", who=request.who, name=request.name, release=request.release, verdict=reason)
    return {"outcome": "rolled-back", "previous": to, "reason": f"{reason}; and then {again}" if again else reason}


def _hooks(root: str, name: str, restart: str, health: str, seconds: float) -> str:
    """Run the operator's commands; what went wrong, or nothing. They come from the inventory, never from a bundle."""
    for title, command in (("restart", restart), ("health", health)):
        reason = _command(root, name, title, command, seconds) if command else ""
        if reason:
            return reason
    return ""


def _command(root: str, name: str, title: str, command: str, seconds: float) -> str:
    environment = dict(os.environ, EDGEPACK_RELEASE=store.current_link(root, name))
    process = subprocess.Popen(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return f"the {title} command did not end within {seconds:.0f} s: {command}"
    if process.returncode == 0:
        return ""
    said = " ".join(output[-_OUTPUT:].decode("utf-8", "replace").split())[-300:]
    return f"the {title} command failed with {process.returncode}: {command}" + (f" ({said})" if said else "")
