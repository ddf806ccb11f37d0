"""A history as series of comparable runs, and the steps in them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from msgspec import Struct

from edgepack import comparable, steps
from edgepack.report import Report, Verdict


class Point(Struct, frozen=True, kw_only=True):
    """One report. p50_ns, interval_ns: the median with its 95 % interval; step: the level's ratio where it changes here"""

    started: str
    version: str
    runtime_version: str
    p50_ns: int
    p90_ns: int
    interval_ns: tuple[int, int]
    verdict: Verdict
    step: float | None = None
    chance: float | None = None


class Series(Struct, frozen=True, kw_only=True):
    """Runs of one variant that may be compared with each other, oldest first.

    counted: how many of them the search for steps looked at: an invalid run says nothing of a level
    """

    variant: str
    runtime: str
    threads: int
    counted: int
    points: tuple[Point, ...]


def series(reports: Sequence[Report]) -> tuple[Series, ...]:
    """Group reports (oldest first) by variant, and within one by whether they are comparable, and find the steps in each."""
    by_variant = sorted(reports, key=lambda one: one.variant)
    found = []
    for _, same in groupby(by_variant, key=lambda one: one.variant):
        found += [_series(group) for group in _comparable(list(same))]
    return tuple(found)


def _comparable(reports: Sequence[Report]) -> list[list[Report]]:
    groups: list[list[Report]] = []
    for one in reports:
        home = next((group for group in groups if not comparable.differences(group[0], one)), None)
        if home is None:
            groups.append([one])
        else:
            home.append(one)
    return groups


def _series(reports: Sequence[Report]) -> Series:
    # A loopback or emulated board is never valid, yet its own history is of use: then every run counts.
    valid = [one for one in reports if one.validity.verdict != "invalid"] or list(reports)
    found = {id(valid[step.index]): step for step in steps.find_steps([one.summary.p50_ns for one in valid])}
    points = []
    for one in reports:
        step = found.get(id(one))
        points.append(
            Point(
                started=one.run_context.started,
                version=one.bundle.version,
                runtime_version=one.runtime.version,
                p50_ns=one.summary.p50_ns,
                p90_ns=one.summary.p90_ns,
                interval_ns=one.summary.p50_interval_ns,
                verdict=one.validity.verdict,
                step=step.ratio if step else None,
                chance=step.p if step else None,
            )
        )
    first = reports[0]
    return Series(
        variant=first.variant,
        runtime=first.runtime.name,
        threads=first.runtime.threads,
        counted=len(valid),
        points=tuple(points),
    )
