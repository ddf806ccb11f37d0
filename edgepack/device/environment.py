"""A runtime is built once, offline, from wheels that were pushed, or noted as the system's own."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, Dict

from . import runtime, store
from .faults import Fault
from .requests import RuntimeRequest
from .runtime import MODULES, Runtime


def provide(root: str, request: RuntimeRequest) -> Dict[str, Any]:
    """Make a runtime usable, once: it counts when an import in it has succeeded.

    Raises Fault for an evil wheel, a missing blob, a full disk, an import that fails, or a system version out of range.
    """
    if request.runtime not in MODULES:
        raise Fault("input", f"runtime {request.runtime!r} is not known", expected=", ".join(MODULES))
    if request.lock:
        _ensure_locked(request)
    with store.locked(root, "runtime"):
        if request.key.startswith("system:"):
            return {"state": "system", "version": _note_system(root, request)}
        found = runtime.find(root, request.key)
        if found is not None:
            return {"state": "present", "version": found.version}
        return {"state": "installed", "version": _build(root, request)}


def _ensure_locked(request: RuntimeRequest) -> None:
    """The key names the lock, and the lock the wheels: whoever allowed the key allowed these and no others."""
    if store.hash_text(request.lock) != request.key:
        raise Fault("trust", "the runtime lock is not the one that its key names", expected=request.key)
    locked = {(one["filename"], one["digest"]) for one in json.loads(request.lock)["wheels"]}
    if {(wheel.filename, wheel.digest) for wheel in request.wheels} != locked:
        raise Fault("trust", "the wheels are not those of the runtime lock", expected="the wheels that the lock names")


def _note_system(root: str, request: RuntimeRequest) -> str:
    found = runtime.imported(sys.executable, request.runtime, request.probe_seconds)
    if not found.version or not runtime.allowed(found.version, request.version):
        raise Fault(
            "input",
            f"the board's own Python has {request.runtime} {found.version}"
            if found.version
            else f"the board's own Python cannot import {request.runtime}: {found.reason}",
            expected=f"{request.runtime} {request.version}, provided by the system as the profile says",
            advice=f"install it with the board's package manager, for {sys.executable}",
        )
    folder = store.runtime_folder(root, request.key)
    os.makedirs(folder, exist_ok=True)
    note = Runtime(request.runtime, found.version, request.key, "system", sys.executable)
    store.write_json(os.path.join(folder, "runtime.json"), note._asdict())
    return found.version


def _build(root: str, request: RuntimeRequest) -> str:
    folder = store.runtime_folder(root, request.key)
    runtimes, name = os.path.split(folder)
    os.makedirs(runtimes, exist_ok=True)
    store.sweep(runtimes)
    aside = os.path.join(runtimes, f".{name}.{os.getpid()}")
    try:
        python = _environment(root, aside, request)
        version = _import(aside, python, request)
        note = Runtime(request.runtime, version, request.key, "wheels", python)
        store.write_json(os.path.join(aside, "runtime.json"), note._asdict())
        _sync_disk(aside)
        store.discard(folder)
        os.rename(aside, folder)
        store.sync_folder(runtimes)
        for wheel in request.wheels:  # unpacked now: a board has no room for both
            os.unlink(store.blob_path(root, wheel.digest))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return version


def _environment(root: str, aside: str, request: RuntimeRequest) -> str:
    """A virtual environment with the wheels in it; its interpreter, relative to it."""
    import venv

    from . import unpack

    wheels = [_blob(root, wheel.filename, wheel.digest) for wheel in request.wheels]
    # what no wheel provides (numpy on 32-bit ARM) the lock leaves to the board's own packages
    venv.EnvBuilder(with_pip=False, symlinks=True, system_site_packages=bool(request.system)).create(aside)
    packages = os.path.join("lib", f"python{sys.version_info[0]}.{sys.version_info[1]}", "site-packages")
    unpack.unpack(wheels, os.path.join(aside, packages), aside)
    return os.path.join("bin", "python3")


def _blob(root: str, filename: str, digest: str) -> str:
    path = store.blob_path(root, digest)
    if not os.path.exists(path):
        raise Fault("board", f"the wheel {filename} is not on the board", advice="push the bundle again")
    store.ensure_intact(path, digest)
    return path


def _import(aside: str, python: str, request: RuntimeRequest) -> str:
    found = runtime.imported(os.path.join(aside, python), request.runtime, request.probe_seconds)
    if found.version:
        return found.version
    needs = f"; it needs the board's own {', '.join(request.system)}" if request.system else ""
    raise Fault(
        "board",
        f"{request.runtime} {request.version} was installed but cannot be imported on the board: {found.reason}{needs}",
        expected=f"`import {MODULES[request.runtime][0]}` to succeed within {request.probe_seconds:.0f} s",
        advice="signal 4 means that the wheel needs instructions this CPU lacks; a missing .so belongs to a system package",
    )


def _sync_disk(path: str) -> None:
    """Write a whole file system's pending data: one call, where an fsync for each of a thousand files takes seconds."""
    import ctypes

    handle = os.open(path, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
        if syncfs is None or syncfs(handle) != 0:
            os.sync()
    finally:
        os.close(handle)
