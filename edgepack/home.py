"""Where things are: what edgepack keeps for a user, and the data it is shipped with."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """`$EDGEPACK_HOME`, default `~/.local/share/edgepack`. Everything edgepack keeps for a user lies below it."""
    chosen = os.environ.get("EDGEPACK_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".local/share/edgepack"


def shipped(folder: str) -> Path:
    """A folder of shipped data (`profiles`, `targets`): in the wheel below `edgepack/data`, in a checkout at its top."""
    package = Path(__file__).parent
    installed = package / "data" / folder
    return installed if installed.is_dir() else package.parent / folder
