"""What a terminal shows of benchmarks: a line a board while they run, a table with the verdicts first when they are done."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from edgepack.cli.output import print_table
from edgepack.cli.progress import escape, own_stderr, progress

if TYPE_CHECKING:
    from edgepack.bench import Listener
    from edgepack.ports import Progress
    from edgepack.protocol import Beat
    from edgepack.report import Report
    from edgepack.target import Target

T = TypeVar("T")
_BARS = "▁▂▃▄▅▆▇█"
_SHOWN = 16
"""Blocks whose medians are drawn."""
_ROOMY = 100
"""Columns of a terminal that has room for them."""
_VERDICTS = {"valid": "", "suspect": "yellow", "invalid": "red"}
_HEADLINE = ("cooling", "starting", "warming", "timing")
_STAGES = {
    "cooling": "waiting until it is cool",
    "starting": "starting a process",
    "warming": "warming up",
    "timing": "timing",
    "sweep": "sweeping threads",
    "sustained": "under sustained load",
    "cold": "cold start",
    "ops": "operators",
    "energy": "energy",
}


@dataclass(frozen=True)
class Heard:
    """What is known of one board's benchmark so far. medians: of the blocks, in ns, of the pass that runs now"""

    beat: Beat | None = None
    medians: tuple[int, ...] = ()

    def after(self, beat: Beat) -> Heard:
        """The headline and each pass beside it have medians of their own."""
        same = self.beat is not None and (self.beat.stage in _HEADLINE) == (beat.stage in _HEADLINE)
        kept = self.medians if same else ()
        return Heard(beat, (*kept, beat.p50_ns) if beat.p50_ns is not None else kept)


@contextmanager
def watching(targets: Sequence[Target]) -> Iterator[tuple[Progress, Listener | None]]:
    """Who hears of a benchmark: a table that lives while it runs, on a terminal; elsewhere a line a board, and no live view.

    Always on standard error, so that standard output is the document of `--json` or the table at the end.
    """
    if not sys.stderr.isatty():
        yield progress(), None
        return
    watch = Watch([target.name for target in targets])
    with watch.shown():
        yield watch, watch.hear


class Watch:
    """The live table, and the progress that prints above it. Boards are heard from several threads at once."""

    def __init__(self, names: Sequence[str]) -> None:
        from rich.console import Console

        self._console = Console(file=own_stderr(), force_terminal=True, highlight=False)
        self._lock = threading.Lock()
        self._heard = {name: Heard() for name in names}

    @contextmanager
    def shown(self) -> Iterator[None]:
        from rich.live import Live

        with Live(get_renderable=self.table, console=self._console, refresh_per_second=5, transient=True,
                  redirect_stdout=False, redirect_stderr=False):  # fmt: skip
            yield

    def hear(self, beat: Beat) -> None:
        with self._lock:
            self._heard[beat.target] = self._heard.get(beat.target, Heard()).after(beat)

    def table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, header_style="dim", pad_edge=False)
        roomy = self._console.width >= _ROOMY
        columns = ("board", "process", "", "samples", "p50 so far", "°C", "MHz", *(("blocks",) if roomy else ()))
        for column in columns:
            table.add_column(column, no_wrap=True)
        with self._lock:
            heard = dict(self._heard)
        for name, one in heard.items():
            table.add_row(*(escape(cell) for cell in row(name, one)[: len(columns)]))
        return table

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._console.print(f"[green]✓[/] {escape(title)} [dim]{time.perf_counter() - start:.1f} s[/]")

    def track(self, items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
        yield from items

    def note(self, message: str) -> None:
        self._console.print(message, markup=False)

    def warn(self, message: str) -> None:
        self._console.print(f"warning: {message}", style="yellow", markup=False)


def row(name: str, heard: Heard) -> tuple[str, ...]:
    """One board's line: where it is, its median so far with its interval, heat and clock, how the blocks went."""
    beat = heard.beat
    if beat is None:
        return (name, "", "connecting", "", "", "", "", "")
    return (
        name,
        f"{beat.process}/{beat.processes}",
        _STAGES[beat.stage],
        str(beat.samples or ""),
        so_far(heard.medians),
        "" if beat.temperature_c is None else f"{beat.temperature_c:.1f}",
        f"{max(beat.mhz)}" if beat.mhz else "",
        sparkline(heard.medians[-_SHOWN:]),
    )


def so_far(medians: Sequence[int]) -> str:
    """`4.21 ms (4.19 … 4.25)`: the median of the blocks' medians with its 95 % interval, from six on."""
    from edgepack.stats import median_interval, percentile

    if not medians:
        return ""
    ordered = sorted(medians)
    unit, scale = ("ms", 1e6) if ordered[0] >= 1e5 else ("µs", 1e3)
    middle = f"{percentile(ordered, 50) / scale:.3g} {unit}"
    if len(ordered) < 6:
        return middle
    low, high = median_interval(ordered)
    return f"{middle} ({low / scale:.3g} … {high / scale:.3g})"


def sparkline(values: Sequence[int]) -> str:
    """Heights between the smallest and the largest, which span at least a tenth: less is noise, and is drawn flat."""
    if not values:
        return ""
    low = min(values)
    span = max(max(values) - low, 0.1 * low)
    return "".join(_BARS[min(len(_BARS) - 1, int((value - low) / span * len(_BARS)))] for value in values)


def print_reports(reports: Sequence[Report]) -> None:
    """A line a run, whether it can be trusted before how fast it was; below, why not."""
    from edgepack.cli.measured import ms

    rows = [
        (
            report.validity.verdict,
            report.run_context.target,
            report.variant,
            ms(report.summary.p50_ns),
            " … ".join(ms(end) for end in report.summary.p50_interval_ns),
            ms(report.summary.p90_ns),
            ms(report.summary.p99_ns),
            f"{max(process.vmhwm_kb for process in report.processes) / 1024:.1f}",
        )
        for report in reports
    ]
    columns = ("verdict", "target", "variant", "p50 ms", "95 % interval", "p90 ms", "p99 ms", "peak MB")
    print_table("", columns, rows, [_VERDICTS[report.validity.verdict] for report in reports])
    names = [report.run_context.target for report in reports]
    for report, name in zip(reports, names, strict=True):
        who = name if names.count(name) == 1 else f"{name}, {report.variant} {report.bundle.version}"
        for reason in (*report.validity.reasons, *report.notes):
            print(f"  {who}: {reason}")
