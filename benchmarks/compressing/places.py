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


def digest_of_reach(file: Path, names: set[str]) -> str:
    """Of those definitions of a Python file that `names` lead to, directly or through each other."""
    tree = ast.parse(file.read_text())
    known = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    reached, left = {}, names & set(known)
    while left:
        name = left.pop()
        reached[name] = ast.dump(known[name])
        used = {node.id for node in ast.walk(known[name]) if isinstance(node, ast.Name)}
        left |= (used & set(known)) - set(reached)
    return hashlib.sha256("\n".join(reached[name] for name in sorted(reached)).encode()).hexdigest()


def digest_of_code(*files: Path) -> str:
    """Of what Python files say, whatever their comments and their form."""
    said = [ast.dump(ast.parse(file.read_text())) for file in files]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()
