"""The bundles that this user keeps: `$EDGEPACK_HOME/store`, by digest, what they share kept once."""

from edgepack.store.history import Release, history
from edgepack.store.keeping import Entry, Freed, add, entries, find, gc, keep, remove, stage, superseded
from edgepack.store.staging import Staging

__all__ = [
    "Entry",
    "Freed",
    "Release",
    "Staging",
    "add",
    "entries",
    "find",
    "gc",
    "history",
    "keep",
    "remove",
    "stage",
    "superseded",
]
