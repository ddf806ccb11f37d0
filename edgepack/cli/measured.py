"""What `edgepack bench` found beside the headline, as it is printed: its passes, and one against the other."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from edgepack.cli.output import print_json, print_table
from edgepack.report import Pair, Report


def show_pairs(pairs: Sequence[Pair], json: bool) -> None:
    """Raises Exit 4 on a regression."""
    if json:
        print_json(pairs[0] if len(pairs) == 1 else {"pairs": pairs})
    else:
        for pair in pairs:
            print_all(pair.reports)
            low, high = pair.comparison.interval
            said = f"{pair.comparison.ratio:.3f} (95 % interval {low:.3f} … {high:.3f}): {pair.comparison.verdict}"
            print(f"B/A on {pair.reports[0].run_context.target}, in turns: {said}")
    if any(pair.comparison.regression for pair in pairs):
        raise typer.Exit(4)


def print_all(reports: Sequence[Report]) -> None:
    """The headline with its verdict, then the passes beside it."""
    from edgepack.cli.live import print_reports

    print_reports(reports)
    for report in reports:
        _print_passes(report)


def ms(ns: float) -> str:
    """Milliseconds with what a person reads of them: three decimals, more below 10 µs."""
    return f"{ns / 1e6:.3f}" if ns >= 10_000 else f"{ns / 1e6:.5f}"


def _print_passes(report: Report) -> None:
    who = f"{report.variant} on {report.run_context.target}"
    rows: list[tuple[str, ...]]
    if report.sweep:
        rows = [
            (str(one.threads), one.verdict, ms(one.p50_ns), ms(one.p90_ns), f"{one.throughput_per_s:.0f}")
            for one in report.sweep
        ]
        print_table(f"threads, {who}", ("threads", "verdict", "p50 ms", "p90 ms", "samples/s"), rows)
    if report.sustained:
        rows = [
            (str(one.minute), ms(one.p50_ns), ms(one.p90_ns), str(one.count), _told(one.temperature_c), _clock(one.mhz))
            for one in report.sustained
        ]
        print_table(f"sustained, {who}", ("minute", "p50 ms", "p90 ms", "inferences", "°C", "MHz"), rows)
    if cold := report.cold:
        print(
            f"first inference of a fresh process, page cache {cold.page_cache}: import {cold.import_ns / 1e6:.0f} ms, "
            f"load {cold.load_ns / 1e6:.1f} ms, first {ms(cold.first_ns)} ms"
        )
    if report.ops:
        rows = [(one.name, one.kind, ms(one.ns), f"{one.share:.1%}", str(one.calls)) for one in report.ops[:20]]
        print_table(f"operators in a pass of their own, {who}", ("operator", "kind", "ms", "share", "calls"), rows)
    if energy := report.energy:
        print(f"{energy.joules_per_inference * 1e3:.3g} mJ an inference at {energy.watts:.2f} W ({energy.source})")


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _clock(mhz: Sequence[int]) -> str:
    return str(max(mhz)) if mhz else "–"
