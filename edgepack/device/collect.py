"""What nothing on the board needs any more is removed: old releases of one name, then runtimes, blobs and agents."""

from __future__ import annotations

import os
import sys
import time
from typing import Set, Tuple

from . import door, release, store
from .store import Line

YOUNG_SECONDS = 3600.0
"""Another push may be between its blobs and its release: what is younger stays, needed or not."""
_AGENTS = 3


def collect(root: str, name: str) -> None:
    """Remove releases of `name` that are neither active, on trial nor kept, and what no release refers to. Under the lock."""
    line = store.read_lines(root).get(name, Line())
    keep = {*line.history, line.trial, store.active(root, name)}
    for folder in store.names_in(os.path.join(root, "releases", name)):
        if "sha256:" + folder not in keep:
            store.discard(os.path.join(root, "releases", name, folder))
    blobs, runtimes = needed(root)
    for folder in store.names_in(os.path.join(root, "runtimes")):
        path = os.path.join(root, "runtimes", folder)
        if folder not in runtimes and _old(path):
            store.discard(path)
    for kind in ("sha256", "partial"):
        for blob in store.names_in(os.path.join(root, "blobs", kind)):
            path = os.path.join(root, "blobs", kind, blob)
            if blob not in blobs and _old(path):
                os.unlink(path)
    _old_agents(root)


def needed(root: str) -> Tuple[Set[str], Set[str]]:
    """The names of the blobs and of the runtimes that some release on the board refers to."""
    blobs: Set[str] = set()
    runtimes: Set[str] = set()
    for record in release.all_of(root):
        path = os.path.join(store.release_folder(root, record.name, record.digest), "manifest.json")
        manifest = release.read_manifest(path)
        blobs.add(store.hex_of(record.manifest))
        for id in record.variants:
            one = release.variant(manifest, id)
            blobs |= {store.hex_of(one.digest), store.hex_of(one.golden)}
        runtimes |= {os.path.basename(store.runtime_folder(root, key)) for key in record.runtimes.values()}
    return blobs, runtimes


def _old(path: str) -> bool:
    return time.time() - os.path.getmtime(path) > YOUNG_SECONDS


def _old_agents(root: str) -> None:
    """Keep the agents of a few edgepack versions: hosts of different versions may take turns."""
    folder = os.path.join(root, "agent")
    own = os.path.basename(os.path.dirname(os.path.abspath(sys.argv[0])))
    kept = {own, *door.read(root).agents}
    others = [name for name in store.names_in(folder) if name not in kept]
    others.sort(key=lambda name: os.path.getmtime(os.path.join(folder, name)), reverse=True)
    for name in others[_AGENTS:]:
        store.discard(os.path.join(folder, name))
