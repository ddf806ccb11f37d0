"""Files that commands are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.report import Comparison, Report


@dataclass(frozen=True)
class Measured:
    """What one run of `edgepack bench` gave. comparison: where two releases took turns (`--ab`)"""

    reports: tuple[Report, ...]
    comparison: Comparison | None = None


def read_report(path: Path) -> Report:
    """A report that `edgepack bench --json` printed. Raises InputError naming the file."""
    from edgepack import report

    return report.decode(_bytes(path), str(path))


def read_measured(path: Path) -> Measured:
    """Any document that `edgepack bench --json` prints: of one board, of several, of two releases. Raises InputError."""
    import msgspec
    from msgspec import Raw

    from edgepack import report
    from edgepack.errors import InputError

    data = _bytes(path)
    try:
        parts = msgspec.json.decode(data, type=dict[str, Raw])
        if "reports" not in parts:
            return Measured((report.decode(data, str(path)),))
        reports = msgspec.json.decode(parts["reports"], type=tuple[report.Report, ...])
        comparison = msgspec.json.decode(parts.get("comparison", Raw(b"null")), type=report.Comparison | None)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not what edgepack bench --json prints: {error}") from None
    return Measured(reports, comparison)


def _bytes(path: Path) -> bytes:
    from edgepack.errors import InputError

    if not path.is_file():
        raise InputError(f"report {path} does not exist", advice="edgepack bench BUNDLE TARGET --json > REPORT")
    return path.read_bytes()
