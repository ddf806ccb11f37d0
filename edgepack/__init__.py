"""edgepack: from a trained model to a measured bundle that runs on a fleet of boards.

    import edgepack

    bundle = edgepack.open_bundle("kws-1.2.0-rpi4.edgepack")
    targets = edgepack.find_targets(["ring=canary"])
    for result in edgepack.push(bundle, targets, allow_unsigned=True):
        print(result.target, result.outcome, result.reason)
    (report,) = edgepack.bench(bundle, targets[:1])

The names below are the public surface; everything else is private. Nothing is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgepack.api import bench as bench
    from edgepack.api import build as build
    from edgepack.api import compare as compare
    from edgepack.api import push as push
    from edgepack.api import rollback as rollback
    from edgepack.api import status as status
    from edgepack.bundle import Bundle as Bundle
    from edgepack.bundle import open_bundle as open_bundle
    from edgepack.catalog import find_targets as find_targets
    from edgepack.catalog import load_profiles as load_profiles
    from edgepack.errors import EdgepackError as EdgepackError
    from edgepack.profile import Profile as Profile
    from edgepack.report import Report as Report
    from edgepack.target import Target as Target

_HOMES = {
    "bench": "edgepack.api",
    "build": "edgepack.api",
    "compare": "edgepack.api",
    "push": "edgepack.api",
    "rollback": "edgepack.api",
    "status": "edgepack.api",
    "Bundle": "edgepack.bundle",
    "open_bundle": "edgepack.bundle",
    "find_targets": "edgepack.catalog",
    "load_profiles": "edgepack.catalog",
    "EdgepackError": "edgepack.errors",
    "Profile": "edgepack.profile",
    "Report": "edgepack.report",
    "Target": "edgepack.target",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepack' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
