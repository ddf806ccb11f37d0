"""The verb `bench`: connect, look, measure, report; and `compare`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

from edgepack import comparable, remote, stats
from edgepack.bench import Listener, Side
from edgepack.bench import bench as bench_release
from edgepack.bench import bench_pair as bench_two
from edgepack.bundle import Bundle
from edgepack.errors import EdgepackError, InputError
from edgepack.ports import Progress
from edgepack.protocol import Facts, FactsRequest
from edgepack.report import BenchProtocol, BundleRef, Comparison, Pair, Report
from edgepack.target import Target

T = TypeVar("T")
AT_ONCE = 8
_FACTS_SECONDS = 60.0


def _nobody(_: object) -> None:
    pass


def bench(
    bundle: Bundle,
    targets: Sequence[Target],
    protocol: BenchProtocol,
    variant: str,
    progress: Progress,
    listener: Listener | None = None,
    done: Callable[[Report], None] = _nobody,
) -> tuple[Report, ...]:
    """Measure the bundle's release on each target that runs it; one report a target, in order.

    variant: one of the bundle's, or empty for the one that the board's applications get. Boards measure at the same time,
    except those that share this machine. listener: told how far each is, from several threads at once; done: given each report
    as soon as there is one, so that a board that fails takes no other's with it. Raises, after all have ended, the first
    BoardError of a target that is unreachable, does not have the release (push first), or whose process crashed or hung.
    """
    if variant:
        bundle.manifest.variant(variant)
    ref = reference(bundle)

    def one(session: remote.Session, facts: Facts, target: Target) -> Report:
        return bench_release(session, facts, target, ref, variant, protocol, now(), listener)

    return _on_each(targets, one, progress, done)


def bench_pair(
    sides: tuple[Side, Side],
    targets: Sequence[Target],
    protocol: BenchProtocol,
    margin: float,
    progress: Progress,
    listener: Listener | None = None,
    done: Callable[[Pair], None] = _nobody,
) -> tuple[Pair, ...]:
    """Measure two releases or variants in turns, A B B A, on each target that has both; one pair a target, in order.

    margin: as for `compare`. Raises as `bench`, and InputError where both sides are the same.
    """
    if sides[0] == sides[1]:
        raise InputError(f"both sides are {sides[0].variant or sides[0].ref.name}", expected="two variants or bundles")

    def one(session: remote.Session, facts: Facts, target: Target) -> Pair:
        first, second = bench_two(session, facts, target, sides, protocol, now(), listener)
        return Pair((first, second), stats.compare_pairs(first, second, margin))

    return _on_each(targets, one, progress, done)


def _on_each(
    targets: Sequence[Target],
    work: Callable[[remote.Session, Facts, Target], T],
    progress: Progress,
    done: Callable[[T], None],
) -> tuple[T, ...]:
    """The work's result on every target, in order: at the same time on boards that are apart, in turn on those that share this
    machine. Raises, after all have ended, the first error."""
    shared = [target for target in targets if target.board is not None]
    alone = [target for target in targets if target.board is None]
    results: dict[str, T | EdgepackError] = {}
    with remote.Bastions() as bastions, ThreadPoolExecutor(AT_ONCE) as pool:

        def attempt(target: Target) -> T | EdgepackError:
            try:
                with visit(target, bastions) as (session, facts):
                    result = work(session, facts, target)
            except EdgepackError as error:
                return error
            done(result)
            return result

        jobs = {target.name: pool.submit(attempt, target) for target in alone}
        for target in shared:
            with progress.step(f"bench {target.name}"):
                results[target.name] = attempt(target)
        for name, job in progress.track(jobs.items(), "bench", len(jobs)) if jobs else ():
            results[name] = job.result()
    return tuple(_good([results[target.name] for target in targets], progress))


def _good(results: Sequence[T | EdgepackError], progress: Progress) -> Iterator[T]:
    failed = [result for result in results if isinstance(result, EdgepackError)]
    for error in failed[1:]:
        progress.warn(error.what)
    if failed:
        raise failed[0]
    yield from (result for result in results if not isinstance(result, EdgepackError))


@contextmanager
def visit(target: Target, bastions: remote.Bastions | None = None) -> Iterator[tuple[remote.Session, Facts]]:
    """An open session with a board and what it says of itself now."""
    with remote.connect(target, bastions=bastions) as session:
        yield session, session.call("facts", FactsRequest(), Facts, _FACTS_SECONDS)


def reference(bundle: Bundle) -> BundleRef:
    return BundleRef(bundle.manifest.name, bundle.manifest.version, bundle.digest)


def now() -> str:
    """RFC 3339, UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def compare(before: Report, after: Report, margin: float) -> Comparison:
    """The ratio of two reports, the second over the first, with its interval. margin: 0.05 lets it be 5 % slower.

    What else differs between the two weakens the comparison and is said; `ensure_comparable` refuses it.

    Raises InputError for a report without samples, a negative margin, or two reports of different models.
    """
    if margin < 0:
        raise InputError(f"margin {margin} is negative", expected="0.05 for 5 %")
    for report in (before, after):
        if not report.processes or any(min(one.samples_ns, default=0) < 1 for one in report.processes):
            raise InputError(
                f"the report of {report.bundle.name} on {report.run_context.target} has a process without samples, "
                "or a sample that took no time",
                expected="at least one positive sample in each process",
            )
    if before.bundle.name != after.bundle.name:
        raise InputError(
            f"the reports are of different models: {before.bundle.name} and {after.bundle.name}",
            expected="two reports of one model",
        )
    return stats.compare(before, after, margin)


def ensure_comparable(before: Report, after: Report, *, runtimes: bool = True) -> None:
    """Raises InputError where the two differ in more than what is compared: another board, other conditions, another protocol.

    runtimes: as of `comparable.differences`
    """
    if found := comparable.differences(before, after, runtimes=runtimes):
        raise InputError(
            "the reports cannot be compared: they were measured with " + "; ".join(found),
            expected="one board in one state, asked in the same way",
            advice="measure again as before, or say --anyway (anyway=True) and read the ratio with that in mind",
        )
