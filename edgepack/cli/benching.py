"""`edgepack bench` and `edgepack compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.output import Json, print_json, print_table
from edgepack.cli.targets import Inventory, Words

if TYPE_CHECKING:
    from edgepack.report import Report


def bench(
    bundle: Word,
    targets: Words,
    variant: Annotated[str, typer.Option(help="A variant of the bundle (default: the one that the board runs).")] = "",
    processes: Annotated[int, typer.Option(min=2, help="Fresh processes on the board.")] = 5,
    samples: Annotated[int, typer.Option(min=1, help="Timed inferences a process.")] = 50,
    warmup: Annotated[int, typer.Option(min=0, help="Inferences before the first timed one.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    seconds: Annotated[float, typer.Option(help="Longest time a process may take its samples.")] = 30.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for one report a target.")] = None,
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Measure a release on its boards. The verdict says whether the numbers can be trusted."""
    from edgepack import catalog, files, measure
    from edgepack.cli.progress import progress
    from edgepack.digest import canonical_json
    from edgepack.report import BenchProtocol

    protocol = BenchProtocol(processes=processes, samples=samples, warmup=warmup, threads=threads, seconds=seconds)
    found = catalog.find_targets(targets, inventory)
    reports = measure.bench(bundle_of(bundle), found, protocol, variant, progress())
    for report in reports:
        if out is not None:
            files.replace(out / f"{report.run_context.target}.{report.variant}.json", canonical_json(report))
    if json:
        print_json(reports[0] if len(reports) == 1 else {"reports": reports})
        return
    print_reports(reports)


def print_reports(reports: Sequence[Report]) -> None:
    rows = [
        (
            report.run_context.target,
            report.variant,
            *(f"{value / 1e6:.3f}" for value in (report.summary.p50_ns, report.summary.p90_ns, report.summary.p99_ns)),
            f"{max(process.vmhwm_kb for process in report.processes) / 1024:.1f}",
            report.validity.verdict,
            "; ".join(report.validity.reasons),
        )
        for report in reports
    ]
    print_table("", ("target", "variant", "p50 ms", "p90 ms", "p99 ms", "peak MB", "verdict", "why"), rows)


def compare(
    before: Annotated[Path, typer.Argument(metavar="REPORT", help="The report to compare with.")],
    after: Annotated[Path, typer.Argument(metavar="REPORT", help="The new report.")],
    margin: Annotated[float, typer.Option(help="How much slower still counts as the same: 0.05 is 5 %.")] = 0.05,
    json: Json = False,
) -> None:
    """The ratio of two reports with its interval. Exit 4 on a regression."""
    from edgepack import measure
    from edgepack.cli.reading import read_report

    comparison = measure.compare(read_report(before), read_report(after), margin)
    if json:
        print_json(comparison)
    else:
        low, high = comparison.interval
        print(f"after/before: {comparison.ratio:.3f} (95 % interval {low:.3f} … {high:.3f}): {comparison.verdict}")
        for reason in comparison.reasons:
            print(f"  {reason}")
    if comparison.regression:
        raise typer.Exit(4)
