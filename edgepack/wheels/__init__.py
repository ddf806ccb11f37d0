"""Runtime locks and the wheels they name: found on the host, for a board that need not be there."""

from edgepack.wheels.locks import known_locks, lock_for, shipped_locks, write_lock
from edgepack.wheels.resolve import resolve
from edgepack.wheels.store import fetch

__all__ = ["fetch", "known_locks", "lock_for", "resolve", "shipped_locks", "write_lock"]
