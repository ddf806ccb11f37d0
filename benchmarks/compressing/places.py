"""Where the benchmark reads and keeps things."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHMARKS = HERE.parent
CHECKOUT = BENCHMARKS.parent
CACHE = Path(os.environ.get("EDGEPACK_BENCHMARKS_CACHE", CHECKOUT / ".cache" / "benchmarks"))
PACKAGES = CACHE / "packages"
"""Models that come as packages, installed for the benchmark alone."""


def assets() -> Path:
    """The folder of released models and data, `$EDGEPACK_ASSETS`."""
    folder = os.environ.get("EDGEPACK_ASSETS")
    if not folder:
        sys.exit(
            "benchmarks/compression: set EDGEPACK_ASSETS to the folder that holds cifar10-jpeg, fsdd, har-phone, …"
        )
    return Path(folder)


def digest_of_code(*files: Path) -> str:
    """Of what Python files say, whatever their comments and their form."""
    said = [ast.dump(ast.parse(file.read_text())) for file in files]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
