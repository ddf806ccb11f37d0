"""A fleet update, the first form: canaries measured before and after, then the rest in batches, and back at the first doubt.

Nothing is remembered between runs but what the boards themselves hold: interrupted at any moment and started again, it finds
the canaries that already run the release, measures them against the release before, and goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgepack import delivery, measure, stats, target, waves
from edgepack.bench import bench
from edgepack.bundle import Bundle
from edgepack.delivery import PushResult, RollbackResult
from edgepack.digest import Digest
from edgepack.errors import EdgepackError, UsageError
from edgepack.ports import Progress
from edgepack.protocol import Facts
from edgepack.report import BenchProtocol, BundleRef, Report
from edgepack.target import Target
from edgepack.waves import Order, Stop, Trial


@dataclass(frozen=True)
class Settings:
    """How to go through a fleet.

    margin: how much slower a canary may get, 0.10 is 10 %; batch: boards updated at once after the canaries
    max_failed: share of the rest that may fail before it stops
    """

    margin: float = 0.10
    batch: int = 4
    max_failed: float = 0.2
    protocol: BenchProtocol = field(default_factory=BenchProtocol)
    allow_unsigned: bool = False
    downgrade: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Row:
    """What became of one target. wave: 0 for canaries; outcome `skipped`: never touched; before_ns, after_ns: medians."""

    target: str
    wave: int
    outcome: str
    release: str = ""
    previous: str = ""
    before_ns: int | None = None
    after_ns: int | None = None
    change: str = ""
    reason: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class FleetResult:
    """stopped: why it did not reach every board, empty where it did; remarks: what an operator should know all the same."""

    rows: tuple[Row, ...]
    stopped: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when every board runs the release; the gravest code of a failed board; at least 4 when a gate stopped it."""
        return max([4 if self.stopped else 0, *(row.exit_code for row in self.rows)])


def fleet_update(
    bundle: Bundle, targets: Sequence[Target], canary: str, settings: Settings, progress: Progress
) -> FleetResult:
    """Bring a fleet to a bundle's release: canaries first, the rest only if none of them failed or got slower.

    canary: a name or a label expression; canaries are updated one after the other, so that a bad release reaches one board
    Raises UsageError where no target is a canary, TrustError or InputError for a broken bundle, before a board is touched.
    """
    _check(settings)
    order = waves.order(targets, _canaries(targets, canary), settings.batch)
    course = _Course(bundle, settings, progress)
    if settings.dry_run:
        return course.rehearse(order)
    return course.run(order)


def _check(settings: Settings) -> None:
    if settings.margin < 0 or not 0 <= settings.max_failed <= 1:
        raise UsageError(
            f"margin {settings.margin}, share that may fail {settings.max_failed}",
            expected="a margin of 0 or more and a share from 0 to 1",
        )


def _canaries(targets: Sequence[Target], canary: str) -> tuple[Target, ...]:
    if "=" not in canary:
        return target.select([canary], targets)
    matches = target.expression(canary)
    return tuple(one for one in targets if matches(one.labels))


@dataclass(frozen=True)
class _Course:
    bundle: Bundle
    settings: Settings
    progress: Progress

    def rehearse(self, order: Order) -> FleetResult:
        rows = [self._pushed(result, 0) for result in self._push(order.canaries)]
        for wave, batch in enumerate(order.batches, 1):
            rows += [self._pushed(result, wave) for result in self._push(batch)]
        return FleetResult(tuple(rows))

    def run(self, order: Order) -> FleetResult:
        trials: list[Trial] = []
        rows: list[Row] = []
        for one in order.canaries:
            trial, row = self._try(one)
            trials.append(trial)
            rows.append(row)
            if isinstance(waves.gate(trials), Stop):
                break
        decision = waves.gate(trials)
        for remark in decision.remarks:
            self.progress.note(remark)
        if isinstance(decision, Stop):
            self.progress.warn(decision.reason)
            rows = self._back(order.canaries[: len(rows)], rows)
            return self._end([*rows, *_skipped(order.canaries[len(rows) :], 0)], order, 1, decision)
        return self._rest(order, rows, decision.remarks)

    def _rest(self, order: Order, rows: list[Row], remarks: tuple[str, ...]) -> FleetResult:
        total = sum(len(batch) for batch in order.batches)
        failed = 0
        for wave, batch in enumerate(order.batches, 1):
            results = self._push(batch)
            rows += [self._pushed(result, wave) for result in results]
            failed += sum(result.exit_code != 0 for result in results)
            decision = waves.budget(failed, total, self.settings.max_failed)
            if isinstance(decision, Stop):
                self.progress.warn(decision.reason)
                return self._end(rows, order, wave + 1, Stop(decision.reason, remarks))
        return FleetResult(tuple(rows), remarks=remarks)

    def _end(self, rows: Sequence[Row], order: Order, wave: int, stop: Stop) -> FleetResult:
        untouched = [
            row for number, batch in enumerate(order.batches, 1) if number >= wave for row in _skipped(batch, number)
        ]
        return FleetResult((*rows, *untouched), stop.reason, stop.remarks)

    def _push(self, targets: Sequence[Target]) -> tuple[PushResult, ...]:
        return delivery.push(
            self.bundle,
            targets,
            allow_unsigned=self.settings.allow_unsigned,
            downgrade=self.settings.downgrade,
            dry_run=self.settings.dry_run,
            progress=self.progress,
        )

    def _try(self, canary: Target) -> tuple[Trial, Row]:
        """One canary: the release before measured, the new one pushed and measured, both again where that is unclear."""
        blank = Row(canary.name, 0, "failed")
        try:
            with measure.visit(canary) as (_, facts):
                old = _before(facts, self._new)
            before = None if old is None else self._measure(canary, old)
        except EdgepackError as error:
            reason = f"not pushed: {error.what}"
            return Trial(canary.name, unmeasured=reason), replace(blank, reason=reason, exit_code=error.exit_code)
        (result,) = self._push([canary])
        row = replace(self._pushed(result, 0), before_ns=before.summary.p50_ns if before else None)
        if result.exit_code:
            return Trial(canary.name, failure=result.reason or result.outcome, first=old is None), row
        try:
            after = self._measure(canary, self._new)
            row = replace(row, after_ns=after.summary.p50_ns)
            if before is None or old is None:
                return Trial(canary.name, first=True), replace(row, change="first release")
            return self._compare(canary, old, before, after, row)
        except EdgepackError as error:
            return Trial(canary.name, unmeasured=error.what), replace(row, reason=error.what, exit_code=error.exit_code)

    def _compare(self, canary: Target, old: BundleRef, before: Report, after: Report, row: Row) -> tuple[Trial, Row]:
        trial = self._held(canary, before, after)
        if waves.unclear(trial):
            self.progress.note(
                f"{canary.name}: slower or unclear, so both releases are measured again, the new one first"
            )
            after = stats.pool(after, self._measure(canary, self._new))
            before = stats.pool(before, self._measure(canary, old))
            trial = self._held(canary, before, after)
        assert trial.comparison is not None
        medians = replace(row, before_ns=before.summary.p50_ns, after_ns=after.summary.p50_ns)
        return trial, replace(medians, change=waves.describe(trial.comparison) + _label(after))

    def _held(self, canary: Target, before: Report, after: Report) -> Trial:
        """Raises InputError where the board was in another state before than after: then a ratio says nothing of the release."""
        measure.ensure_comparable(before, after, runtimes=False)
        return Trial(canary.name, comparison=measure.compare(before, after, self.settings.margin))

    @property
    def _new(self) -> BundleRef:
        return measure.reference(self.bundle)

    def _measure(self, canary: Target, ref: BundleRef) -> Report:
        with (
            self.progress.step(f"{canary.name}: bench {ref.name} {ref.version}"),
            measure.visit(canary) as (session, facts),
        ):
            return bench(session, facts, canary, ref, "", self.settings.protocol, measure.now())

    def _back(self, canaries: Sequence[Target], rows: Sequence[Row]) -> list[Row]:
        """Return every canary that runs the new release to the one before. A first release has none: it stays, as said."""
        done = []
        for canary, row in zip(canaries, rows, strict=True):
            if row.outcome not in ("activated", "unchanged"):
                done.append(row)
            elif row.before_ns is None:
                done.append(replace(row, reason="stays: there is no release before"))
            else:
                (result,) = delivery.rollback([canary], self.bundle.manifest.name, self.progress)
                done.append(_returned(row, result))
        return done

    def _pushed(self, result: PushResult, wave: int) -> Row:
        return Row(
            result.target,
            wave,
            result.outcome,
            release=result.release,
            previous=result.previous,
            reason=result.reason,
            exit_code=result.exit_code,
        )


def _before(facts: Facts, new: BundleRef) -> BundleRef | None:
    """The release that a canary would go back to: the active one, or, where the new one is active already, the one before."""
    mine = [release for release in facts.releases if release.name == new.name]
    active = next((release for release in mine if release.active), None)
    if active is not None and active.digest == new.digest:
        active = next((release for release in mine if release.previous), None)
    return None if active is None else BundleRef(active.name, active.version, Digest(active.digest))


def _label(report: Report) -> str:
    return "" if report.validity.verdict == "valid" else f" [{report.validity.verdict}: {report.validity.reasons[0]}]"


def _skipped(targets: Sequence[Target], wave: int) -> list[Row]:
    return [Row(one.name, wave, "skipped", reason="not touched") for one in targets]


def _returned(row: Row, result: RollbackResult) -> Row:
    if result.outcome == "failed":
        reason = f"STILL RUNS THE NEW RELEASE, rolling back failed: {result.reason}"
        return replace(row, reason=reason, exit_code=max(4, result.exit_code))
    return replace(row, outcome="rolled-back", release=result.release, previous=result.left, exit_code=4)
