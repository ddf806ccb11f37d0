"""The agent as one file, the same bytes wherever it is made."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from importlib import resources

_START = b"from device.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@cache
def agent_pyz() -> bytes:
    """A zip that Python runs: `edgepack/device/*.py` as the package `device`. Sorted, stored, with fixed times and modes."""
    sources = {
        f"device/{entry.name}": entry.read_bytes()
        for entry in resources.files("edgepack.device").iterdir()
        if entry.name.endswith(".py")
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted({**sources, "__main__.py": _START}.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16
            archive.writestr(entry, data)
    return out.getvalue()
