"""`edgepack bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.comparing import Anyway, Baseline, Margin, hold, print_comparison
from edgepack.cli.output import Json, print_json
from edgepack.cli.targets import Inventory, Words
from edgepack.cli.trying import (
    AccuracyData,
    Duration,
    MetricName,
    Part,
    Scenario,
    TargetLatency,
    TargetQps,
    Trials,
    print_trials,
)


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
    html: Annotated[
        Path | None, typer.Option(help="A page with pictures of all of it, as edgepack report makes.")
    ] = None,
    baseline: Baseline = "",
    margin: Margin = 0.05,
    anyway: Anyway = False,
    scenario: Scenario | None = None,
    target_qps: TargetQps = 0.0,
    target_latency_ms: TargetLatency = 0.0,
    duration: Duration = 10.0,
    accuracy: AccuracyData = "",
    part: Part = 1.0,
    metric: MetricName = "",
    inventory: Inventory = None,
    json: Json = False,
) -> None:
    """Measure a release on its boards. The verdict says whether the numbers can be trusted."""
    from edgepack import catalog, files, history, measure
    from edgepack.cli.live import print_reports, watching
    from edgepack.cli.reading import Measured
    from edgepack.cli.reporting import write_page
    from edgepack.digest import canonical_json
    from edgepack.report import BenchProtocol

    trials = Trials(scenario, target_qps, target_latency_ms, duration, accuracy, part, metric)
    trials.check()
    protocol = BenchProtocol(processes=processes, samples=samples, warmup=warmup, threads=threads, seconds=seconds)
    found = catalog.find_targets(targets, inventory)
    opened = bundle_of(bundle)
    with watching(found) as (progress, listener):
        reports = measure.bench(opened, found, protocol, variant, progress, listener)
        reports = trials.add(opened, found, reports, protocol, progress)
    for report in reports:
        history.keep(report)
        if out is not None:
            files.replace(out / f"{report.run_context.target}.{report.variant}.json", canonical_json(report))
    if html is not None:
        write_page(html, Measured(reports), opened.manifest)
    held = [hold(report, baseline, margin, anyway) for report in reports] if baseline else []
    if json and baseline:
        print_json({"reports": reports, "comparisons": held})
    elif json:
        print_json(reports[0] if len(reports) == 1 else {"reports": reports})
    else:
        print_reports(reports)
        print_trials(reports)
        for comparison in held:
            print_comparison(comparison)
    if any(comparison.regression for comparison in held):
        raise typer.Exit(4)
