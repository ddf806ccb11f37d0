"""`edgepack bench`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgepack.cli.bundles import Word, bundle_of
from edgepack.cli.comparing import MARGIN, Anyway, Baseline, Margin, hold, print_comparison
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
from edgepack.report import BenchProtocol

if TYPE_CHECKING:
    from edgepack.bench import Side
    from edgepack.bundle import Bundle
    from edgepack.report import Pair, Report

_SHIPPED = BenchProtocol()
QUICK: dict[str, Any] = {"processes": 2, "warmup": 1, "samples": 10, "warm_seconds": 0.0, "least_seconds": 0.0}


class Inputs(Enum):
    golden = "golden"
    seeded = "seeded"


def bench(
    bundle: Word,
    targets: Words,
    variant: Annotated[str, typer.Option(help="A variant of the bundle (default: the one that the board runs).")] = "",
    ab: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B", help="Compare two variants of the bundle, or two bundles, in turns on the board: A B B A."
        ),
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="Fresh processes on the board.")] = _SHIPPED.processes,
    samples: Annotated[int, typer.Option(min=1, help="Timed inferences a process, at least.")] = _SHIPPED.samples,
    warmup: Annotated[int, typer.Option(min=0, help="Inferences of a warm-up, at least.")] = _SHIPPED.warmup,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = _SHIPPED.threads,
    seconds: Annotated[float, typer.Option(min=0.1, help="Longest time that a process may take.")] = _SHIPPED.seconds,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one inference, where the model allows it.")] = 1,
    inputs: Annotated[Inputs, typer.Option(help="The bundle's golden samples, or seeded noise.")] = Inputs.golden,
    quick: Annotated[bool, typer.Option("--quick", help="Two short processes: whether it runs, not how fast.")] = False,
    pin: Annotated[str, typer.Option(metavar="CORES", help="Run on these cores only: 2,3.")] = "",
    governor: Annotated[
        str, typer.Option(help="Set this CPU governor for the run and restore the old one after it; root on the board.")
    ] = "",
    cool_to: Annotated[
        float,
        typer.Option(min=0, metavar="CELSIUS", help="Wait for the board to be that cool before a process; 0: do not."),
    ] = _SHIPPED.cool_to_c,
    sweep_threads: Annotated[bool, typer.Option("--sweep-threads", help="Also with 1, 2, … threads.")] = False,
    sustained: Annotated[
        str, typer.Option(metavar="TIME", help="Also without a pause for so long, minute by minute: 10m.")
    ] = "",
    cold: Annotated[bool, typer.Option("--cold", help="Also a start with nothing of it in the page cache.")] = False,
    ops: Annotated[bool, typer.Option("--ops", help="Also how long each operator takes.")] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Also energy, where the board has a sensor.")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A folder for one report a target.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="A page with pictures of all of it, as edgepack report makes.")
    ] = None,
    baseline: Baseline = "",
    margin: Margin = MARGIN,
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
    """Measure a release on its boards. The verdict says whether the numbers can be trusted.

    With --ab the exit code is 4 where B is slower than A by more than the margin.
    """
    from msgspec import structs

    from edgepack import catalog, history, measure, trying
    from edgepack.cli import measured
    from edgepack.cli.live import watching
    from edgepack.cli.reading import Measured
    from edgepack.cli.reporting import write_page
    from edgepack.errors import EdgepackError, UsageError

    trials = Trials(scenario, target_qps, target_latency_ms, duration, accuracy, part, metric)
    trials.check()
    if ab is not None and (variant or baseline or scenario or accuracy):
        raise UsageError(
            "--ab stands by itself", expected="it without --variant, --baseline, --scenario and --accuracy"
        )
    if ab is not None and processes < 2:
        raise UsageError("--ab needs pairs of processes", expected="--processes 2 or more")
    if not baseline and (anyway or (margin != MARGIN and ab is None)):
        raise UsageError("--anyway belongs to --baseline, --margin to --baseline or --ab")
    if baseline:
        history.given_baseline(baseline)  # a file that is none is said before anything is measured
    protocol = structs.replace(
        _SHIPPED,
        processes=processes,
        samples=samples,
        warmup=warmup,
        threads=threads,
        seconds=seconds,
        batch=batch,
        inputs=inputs.value,
        pin=_cores(pin),
        governor=governor,
        cool_to_c=cool_to,
        sweep_threads=sweep_threads,
        sustained_seconds=_seconds(sustained),
        cold=cold,
        ops=ops,
        energy=energy,
    )
    if quick:
        protocol = structs.replace(protocol, **QUICK)
    found = catalog.find_targets(targets, inventory)
    opened = bundle_of(bundle)
    pairs: tuple[Pair, ...] = ()
    reports: list[Report] = []
    with watching(found) as (progress, listener):
        asked = trials.questions(opened, progress)
        try:
            if ab is not None:
                sides = (_side(ab[0], opened), _side(ab[1], opened))
                pairs = measure.bench_pair(
                    sides, found, protocol, margin, progress, listener, lambda pair: reports.extend(pair.reports)
                )
                reports[:] = trying.counted(opened, [report for pair in pairs for report in pair.reports], progress)
            else:
                reports[:] = measure.bench(opened, found, protocol, variant, progress, listener, reports.append)
                trials.add(opened, found, reports, protocol, asked, progress)
        except (EdgepackError, KeyboardInterrupt):
            for path in _keep(reports, out):
                progress.warn(f"what was measured before that is kept: {path}")
            raise
    _keep(reports, out)
    if html is not None:
        write_page(html, Measured(tuple(reports), tuple(pair.comparison for pair in pairs)), opened)
    if ab is not None:
        measured.show_pairs(pairs, json)
        return
    if not json:
        measured.print_all(reports)
        print_trials(reports)
    held = []
    for report in reports if baseline else ():
        held.append(hold(report, baseline, margin, anyway, progress.warn))
        if not json:
            print_comparison(held[-1])
    if json and baseline:
        print_json({"reports": reports, "comparisons": held})
    elif json:
        print_json(reports[0] if len(reports) == 1 else {"reports": reports})
    if any(comparison.regression for comparison in held):
        raise typer.Exit(4)


def _keep(reports: Sequence[Report], out: Path | None) -> list[Path]:
    """In the history, and in `--out` where it was given."""
    from edgepack import files, history
    from edgepack.digest import canonical_json

    kept = []
    for report in reports:
        kept.append(history.keep(report))
        if out is not None:
            files.replace(out / f"{report.run_context.target}.{report.variant}.json", canonical_json(report))
    return kept


def _side(word: str, bundle: Bundle) -> Side:
    """A variant of the bundle by its id, else a bundle of its own."""
    from edgepack import measure
    from edgepack.bench import Side

    if any(word == one.id for one in bundle.manifest.variants):
        return Side(measure.reference(bundle), word)
    return Side(measure.reference(bundle_of(word)))


def _cores(text: str) -> tuple[int, ...]:
    from edgepack.errors import UsageError

    words = [word for word in text.split(",") if word]
    if not all(word.isdigit() for word in words):
        raise UsageError(f"--pin {text}: not a list of cores", expected="numbers with commas between, for example 2,3")
    return tuple(map(int, words))


def _seconds(text: str) -> float:
    """`90`, `90s`, `10m` or `1h`."""
    from edgepack.errors import UsageError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text) if text else None
    if text and found is None:
        raise UsageError(f"--sustained {text}: not a time", expected="for example 90s, 10m or 1h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
