"""Reports as files: put away, found again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edgepack import comparable, digest, files, report
from edgepack.errors import InputError
from edgepack.home import home
from edgepack.report import Report

Warn = Callable[[str], None]


def folder(name: str, target: str) -> Path:
    """Where the reports of one bundle on one board lie."""
    return home() / "bench" / name / target


def keep(one: Report) -> Path:
    """Add a report to its history; the file that it is in. The same report twice is one file."""
    data = digest.canonical_json(one)
    moment = one.run_context.started.replace(":", "").replace("-", "")
    name = f"{moment}-{digest.hex_of(digest.of_bytes(data))[:12]}.json"
    path = folder(one.bundle.name, one.run_context.target) / name
    if not path.exists():
        files.replace(path, data)
    return path


def recall(name: str, target: str, warn: Warn) -> tuple[Report, ...]:
    """All reports of one bundle on one board, oldest first. warn: told each file that is no report, which is left out."""
    return tuple(_readable(sorted(folder(name, target).glob("*.json")), warn))


def everything(warn: Warn) -> tuple[Report, ...]:
    """All reports of all bundles on all boards, oldest first. warn: as of `recall`"""
    return tuple(_readable(sorted((home() / "bench").glob("*/*/*.json"), key=lambda path: path.name), warn))


def _readable(paths: Iterable[Path], warn: Warn) -> Iterator[Report]:
    """One broken file must not hide the others: each is a run of its own, and says nothing of them."""
    for path in paths:
        try:
            yield report.decode(path.read_bytes(), str(path))
        except InputError as error:
            warn(f"left out of the history: {error.what}; delete the file, or move it away from there")
        except OSError as error:
            warn(f"left out of the history: {path}: {error.strerror}")


def given_baseline(wanted: str) -> Report | None:
    """The report where `wanted` is the file of one, None where it is a word for the history. Raises InputError naming it."""
    path = Path(wanted)
    if path.suffix != ".json" and not path.is_file():
        return None
    if not path.is_file():
        raise InputError(f"baseline {wanted} does not exist", expected="a report's file, `last`, or a version")
    return report.decode(path.read_bytes(), wanted)


def baseline(wanted: str, after: Report, warn: Warn) -> Report:
    """What a new report is held against.

    wanted: `last` (the newest earlier one of its variant that is comparable), a version of the bundle (the newest of that), or
    the file of a report; warn: as of `recall`. Raises InputError where there is none, saying what the history holds.
    """
    given = given_baseline(wanted)
    if given is not None:
        return given
    name, target = after.bundle.name, after.run_context.target
    earlier = [one for one in recall(name, target, warn) if one != after and one.variant == after.variant]
    fitting = [one for one in earlier if wanted in ("last", one.bundle.version)]
    same = [one for one in fitting if not comparable.differences(one, after)]
    if same or fitting:
        return (same or fitting)[-1]
    versions = ", ".join(dict.fromkeys(one.bundle.version for one in earlier))
    raise InputError(
        f"no baseline {wanted!r} of {after.variant} on {target}",
        expected=f"`last`, a report's file, or one of the versions measured there: {versions or 'none yet'}",
        advice="edgepack bench without --baseline first: every run is kept",
    )
