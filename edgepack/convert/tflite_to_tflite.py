"""TFLite as it is: the user's own bytes."""

from __future__ import annotations

import shutil
from pathlib import Path

from edgepack.model import Signature
from edgepack.ports import TfliteNative
from edgepack.samples import Arrays


def convert(native: TfliteNative, signature: Signature, out: Path, samples: Arrays) -> None:
    """Copy. An open batch needs nothing: the interpreter starts with 1."""
    shutil.copyfile(native.path, out)
