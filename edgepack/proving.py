"""Variants of a build on real boards: installed aside, measured with their float parents, gone again. Nothing there changes."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edgepack import catalog, comparable, delivery, measure, remote, stats
from edgepack.bundle import Bundle
from edgepack.errors import UsageError
from edgepack.home import home
from edgepack.names import VariantId
from edgepack.pipeline.weighing import Weighed
from edgepack.ports import Progress
from edgepack.profile import Resolved
from edgepack.report import BenchProtocol, Comparison, Report
from edgepack.target import Target
from edgepack.variant import Measurement, Ratio

MARGIN = 0.05
"""A variant whose interval against its float parent neither leaves 1 nor rules out this much is measured once more."""
_MB = 1024 / 1e6
_UNLIKE = "not held against its float parent"


@dataclass(frozen=True)
class Boards:
    """Where variants are measured, and how."""

    targets: tuple[Target, ...]
    protocol: BenchProtocol
    allow_unsigned: bool
    progress: Progress

    def check(self, profiles: Sequence[Resolved]) -> None:
        """Before hours of work: every board can be reached, and stands for one of the profiles.

        Raises UsageError for a board of another profile, BoardError or TrustError where one cannot be asked.
        """
        fits = {target.name: [one.name for one in profiles if _is_for(target, one.name)] for target in self.targets}
        for target in self.targets:
            if not fits[target.name]:
                raise UsageError(
                    f"target {target.name!r} has the profile {target.profile}, and nothing is built for that",
                    expected=f"a target of {' or '.join(one.name for one in profiles)}",
                    advice=f"-p {target.profile}, or another --target",
                )
        for profile in profiles:
            if not any(profile.name in names for names in fits.values()):
                self.progress.warn(f"{profile.name}: no target of it was named: nothing is measured for it")
        with remote.Bastions() as bastions:
            for target in self.targets:
                with self.progress.step(f"ask {target.name}"), measure.visit(target, bastions):
                    pass

    def weigh(
        self, bundle: Bundle, profile: str, parents: Mapping[VariantId, VariantId | None]
    ) -> Mapping[VariantId, Weighed]:
        """Measure the variants on every board of their profile. See `edgepack.pipeline.weighing.Weigh`.

        What a board cannot use is told by its reason. A stand-in's figures are marked by its verdict.
        Raises BoardError, TrustError where a board or this host's user does not take the bundle.
        """
        results: dict[VariantId, Weighed] = dict.fromkeys(parents, ())
        targets = [target for target in self.targets if _is_for(target, profile)]
        for target in targets:
            for id, found in self._on(target, bundle, parents).items():
                before = results[id]
                if not isinstance(before, str):
                    results[id] = found if isinstance(found, str) else (*before, found)
        return results if targets else {}

    def _on(
        self, target: Target, bundle: Bundle, parents: Mapping[VariantId, VariantId | None]
    ) -> dict[VariantId, Measurement | str]:
        reports: dict[VariantId, Report] = {}
        wanted = list(dict.fromkeys([*parents, *(parent for parent in parents.values() if parent)]))
        with _alone(target, self.progress), remote.Bastions() as bastions:
            trial = delivery.tried(
                bundle, target, allow_unsigned=self.allow_unsigned, bastions=bastions, progress=self.progress
            )
            with trial as refused:
                able = [id for id in wanted if id not in refused]
                for id in self.progress.track(able, f"measure on {target.name}"):
                    reports[id] = self._bench(bundle, target, id)
                # The other way round, so that a board that warms up favours neither (A B B A).
                for id in _undecided(reports, parents):
                    reports[id] = stats.pool(reports[id], self._bench(bundle, target, id))
        found: dict[VariantId, Measurement | str] = {
            id: f"on {target.name}: {reason}" for id, reason in ((id, refused.get(id, "")) for id in parents) if reason
        }
        for id, parent in parents.items():
            if id in reports:
                found[id] = _measurement(target, reports[id], reports.get(parent) if parent else None)
                self.progress.note(line(id, found[id]))
        return found

    def _bench(self, bundle: Bundle, target: Target, id: VariantId) -> Report:
        (report,) = measure.bench(bundle, (target,), self.protocol, id, self.progress)
        return report


def line(id: VariantId, found: Measurement | str) -> str:
    """For people: one variant on one board."""
    if isinstance(found, str):
        return f"{id}: {found}"
    ratio = found.against_parent
    against = f", {ratio.value:.2f} × its float parent ({ratio.low:.2f} … {ratio.high:.2f})" if ratio else ""
    mark = f" ({found.stand_in} board)" if found.stand_in else ""
    unlike = "".join(f", {reason}" for reason in found.reasons if reason.startswith(_UNLIKE))
    return f"{id} on {found.target}{mark}: {found.p50_ms:.3f} ms{against}{unlike}"


def _is_for(target: Target, profile: str) -> bool:
    (own,) = catalog.load_profiles((target.profile,))
    return profile in (own.name, own.profile.extends)


@contextmanager
def _alone(target: Target, progress: Progress) -> Iterator[None]:
    """One measurement at a time on a board, as far as this home knows: two at once would disturb each other."""
    path = home() / "locks" / f"{target.name}.measuring"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step(f"wait for {target.name}, which measures for another process"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _undecided(reports: Mapping[VariantId, Report], parents: Mapping[VariantId, VariantId | None]) -> list[VariantId]:
    """Those to measure again, the last first: variants of which too little is known, and their parents."""
    again: set[VariantId] = set()
    for id, parent in parents.items():
        if parent is not None and parent in reports and id in reports:
            found = stats.compare(reports[parent], reports[id], MARGIN)
            unlike = comparable.differences(reports[parent], reports[id], runtimes=False)
            if unlike or (found.verdict == "same" and not found.excluded):
                again |= {id, parent}
    return [id for id in reversed(list(reports)) if id in again]


def _measurement(target: Target, report: Report, parent: Report | None) -> Measurement:
    summary = report.summary
    kind = str(report.device.get("board") or "") or target.board
    unlike = comparable.differences(parent, report, runtimes=False) if parent else ()
    return Measurement(
        target=target.name,
        stand_in=kind or None,  # type: ignore[arg-type]  # one of the kinds, as the board or the inventory says
        p50_ms=summary.p50_ns / 1e6,
        p90_ms=summary.p90_ns / 1e6,
        memory_mb=max(process.vmhwm_kb for process in report.processes) * _MB,
        against_parent=_ratio(stats.compare(parent, report, MARGIN)) if parent and not unlike else None,
        verdict=report.validity.verdict,
        reasons=(*report.validity.reasons, *(f"{_UNLIKE}: {one}" for one in unlike)),
    )


def _ratio(found: Comparison) -> Ratio:
    return Ratio(found.ratio, *found.interval)
