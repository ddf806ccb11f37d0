"""`edgepack compare` and `edgepack bench-history`: what changed between two runs, and since the first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.output import Json, print_json, print_table

if TYPE_CHECKING:
    from edgepack.report import Comparison, Report

MARGIN = 0.05
Margin = Annotated[float, typer.Option(min=0, help="How much slower still counts as the same: 0.05 is 5 %.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Compare what was measured under other conditions, too.")]
Baseline = Annotated[
    str, typer.Option(help="Compare with a report, `last` or a version in the history; exit 4 on a regression.")
]


def compare(
    before: Annotated[Path, typer.Argument(metavar="REPORT", help="The report to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="REPORT", help="The new report.")],
    margin: Margin = MARGIN,
    anyway: Anyway = False,
    json: Json = False,
) -> None:
    """The ratio of two reports with its interval. Exit 4 on a regression, 3 where they are not comparable."""
    from edgepack.cli.reading import read_report

    comparison = _compare(read_report(before), read_report(after), margin, anyway)
    if json:
        print_json(comparison)
    else:
        print_comparison(comparison)
    if comparison.regression:
        raise typer.Exit(4)


def hold(report: Report, baseline: str, margin: float, anyway: bool, warn: Callable[[str], None]) -> Comparison:
    """A new report against what `--baseline` names. Raises InputError where that is not there or not comparable.

    warn: told each file of the history that is no report
    """
    from edgepack import history

    return _compare(history.baseline(baseline, report, warn), report, margin, anyway)


def _compare(before: Report, after: Report, margin: float, anyway: bool) -> Comparison:
    from edgepack import measure

    comparison = measure.compare(before, after, margin)
    if not anyway:
        measure.ensure_comparable(before, after)
    return comparison


def print_comparison(comparison: Comparison) -> None:
    low, high = comparison.interval
    print(f"after/before: {comparison.ratio:.3f} (95 % interval {low:.3f} … {high:.3f}): {comparison.verdict}")
    for reason in comparison.reasons:
        print(f"  {reason}")


def bench_history(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bundle's name.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The board's name.")],
    json: Json = False,
) -> None:
    """Every run of a bundle on a board, and where its latency changed its level."""
    from edgepack import history
    from edgepack.cli.progress import progress
    from edgepack.errors import InputError

    found = history.series(history.recall(name, target, progress().warn))
    if not found:
        raise InputError(
            f"nothing was measured of {name} on {target}",
            expected=f"reports below {history.folder(name, target)}",
            advice=f"edgepack bench {name} {target}: every run is kept",
        )
    if json:
        print_json({"name": name, "target": target, "series": found})
        return
    for one in found:
        rows = [
            (
                point.started,
                point.version,
                f"{point.p50_ns / 1e6:.3f}",
                " … ".join(f"{value / 1e6:.3f}" for value in point.interval_ns),
                f"{point.p90_ns / 1e6:.3f}",
                point.verdict,
                f"step {point.step:.2f} × (chance {point.chance:.1%})" if point.step and point.chance else "",
            )
            for point in one.points
        ]
        title = f"{one.variant} on {target}, {one.runtime}, {one.threads} threads"
        print_table(title, ("when", "version", "p50 ms", "95 % interval", "p90 ms", "verdict", ""), rows)
