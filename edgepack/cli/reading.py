"""Files that commands are given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgepack.errors import InputError
    from edgepack.report import Comparison, Report


@dataclass(frozen=True)
class Measured:
    """What one run of `edgepack bench` gave. comparisons: one a board where two releases took turns (`--ab`)"""

    reports: tuple[Report, ...]
    comparisons: tuple[Comparison, ...] = ()


def read_report(path: Path) -> Report:
    """One report, as `edgepack bench --json` printed it of one board. Raises InputError naming the file."""
    found = read_measured(path)
    if len(found.reports) == 1:
        return found.reports[0]
    from edgepack.errors import InputError

    held = ", ".join(f"{one.variant} on {one.run_context.target}" for one in found.reports)
    raise InputError(
        f"{path}: holds {len(found.reports)} reports ({held})",
        expected="one report",
        advice="edgepack bench --out FOLDER writes one file a report",
    )


def read_measured(path: Path) -> Measured:
    """Any document that `edgepack bench --json` prints: of one board, of several, of two releases. Raises InputError."""
    import msgspec
    from msgspec import Raw

    from edgepack import report

    data = _bytes(path)
    try:
        parts = msgspec.json.decode(data, type=dict[str, Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        parts = {}
    if "pairs" in parts:
        pairs = [
            _several(one, f"{path}, pairs[{number}]") for number, one in enumerate(_each(parts["pairs"], str(path)))
        ]
        return Measured(
            tuple(one for pair in pairs for one in pair.reports),
            tuple(one for pair in pairs for one in pair.comparisons),
        )
    if "reports" in parts:
        return _several(data, str(path))
    return Measured((report.decode(data, str(path)),))


def _several(data: bytes, file: str) -> Measured:
    import msgspec

    from edgepack import report

    try:
        parts = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        said = parts.get("comparison", msgspec.Raw(b"null"))
        comparison = msgspec.json.decode(said, type=report.Comparison | None)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unread(file, error) from None
    each = _each(parts.get("reports", b"[]"), file)
    reports = [report.decode(one, f"{file}, reports[{number}]") for number, one in enumerate(each)]
    return Measured(tuple(reports), () if comparison is None else (comparison,))


def _each(array: bytes, file: str) -> list[bytes]:
    import msgspec

    try:
        return [bytes(one) for one in msgspec.json.decode(array, type=list[msgspec.Raw])]
    except msgspec.DecodeError as error:
        raise _unread(file, error) from None


def _unread(file: str, error: Exception) -> InputError:
    from edgepack.errors import InputError

    return InputError(
        f"{file}: not what edgepack bench --json prints: {error}", advice="measure again with --json, or --out FOLDER"
    )


def _bytes(path: Path) -> bytes:
    from edgepack.errors import InputError

    if not path.is_file():
        raise InputError(f"report {path} does not exist", advice="edgepack bench BUNDLE TARGET --json > REPORT")
    return path.read_bytes()
