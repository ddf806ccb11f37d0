"""Files that commands are given."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.report import Report


def read_report(path: Path) -> Report:
    """A report that `edgepack bench --json` printed. Raises InputError naming the file."""
    from edgepack import report
    from edgepack.errors import InputError

    if not path.is_file():
        raise InputError(f"report {path} does not exist", advice="edgepack bench BUNDLE TARGET --json > REPORT")
    return report.decode(path.read_bytes(), str(path))
