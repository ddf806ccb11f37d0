"""Drawing: every picture twice, for a wide and for a narrow page, in colours that it takes from the page around it.

matplotlib draws with stand-in colours, which become CSS variables; its text stays text. The same values give the same bytes.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import Any

from edgepack.errors import missing_extra

WIDE, NARROW = 780, 360
"""In CSS pixels: a picture of either is shown about as large as it was drawn, so that its text is."""
INK, MUTED, LINE, GOOD, ACCENT, BAD, WARN, PAPER = (f"#0{n}0{n}0{n}" for n in "12345678")
SERIES = tuple(f"#0b0b0{n}" for n in "12345")
_VARIABLES = dict(
    zip(
        (INK, MUTED, LINE, GOOD, ACCENT, BAD, WARN, PAPER, *SERIES),
        ("ink", "muted", "line", "good", "accent", "bad", "warn", "paper", "p1", "p2", "p3", "p4", "p5"),
        strict=True,
    )
)
SMALL = 10.5
_STYLE = {
    "svg.hashsalt": "edgepack",
    "svg.fonttype": "none",
    "path.simplify": False,  # it would drop dots, which are paths of no length
    "font.size": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 1.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.color": INK,
}


@dataclass(frozen=True)
class Picture:
    """wide, narrow: `<svg>` elements; title: what it is, for who cannot see it as well."""

    title: str
    wide: str
    narrow: str


def picture(title: str, paint: Callable[[int], str]) -> Picture:
    """paint: from a width in CSS pixels to an `<svg>` element."""
    wide, narrow = (_name(paint(width), title) for width in (WIDE, NARROW))
    return Picture(title, wide, narrow)


def _name(svg: str, title: str) -> str:
    said = html.escape(title)
    return svg.replace(">", f' role="img" aria-label="{said}"><title>{said}</title>', 1)


@contextmanager
def sheet(
    width: int, height: float, rows: Sequence[float] = (1,), sharex: bool = True
) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its axes, one below the other, in relative heights. Raises UsageError without matplotlib."""
    with _figure(width, height) as figure:
        axes = figure.subplots(len(rows), 1, sharex=sharex, height_ratios=rows, squeeze=False)
        yield figure, [axis for row in axes for axis in row]


@contextmanager
def panels(width: int, height: float, count: int) -> Iterator[tuple[Any, list[Any]]]:
    """A figure and its axes: beside each other where there is room, else one below the other. height: of one."""
    beside = width >= WIDE
    with _figure(width, height if beside else height * count) as figure:
        axes = figure.subplots(1 if beside else count, count if beside else 1, squeeze=False)
        yield figure, [axis for row in axes for axis in row]


@contextmanager
def _figure(width: int, height: float) -> Iterator[Any]:
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise missing_extra("matplotlib", "report", "a report with pictures") from None
    with matplotlib.rc_context(_STYLE):
        layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03, hspace=0.03, wspace=0.06)
        figure = Figure(figsize=(width / 72, height / 72), dpi=72, layout=layout)
        FigureCanvasAgg(figure)
        yield figure


def svg(figure: Any) -> str:
    """The figure as an `<svg>` element, small, and without anything that changes between runs."""
    buffer = io.StringIO()
    figure.patch.set_alpha(0)
    for axis in figure.axes:
        axis.patch.set_alpha(0)
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'^<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" xmlns="http://www.w3.org/2000/svg" '
                  r'xmlns:xlink="http://www.w3.org/1999/xlink">', text)  # fmt: skip
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"\d+\.\d{3,}", lambda n: f"{float(n[0]):.2f}", tag[0]), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", _without_shells(_rename(text))).strip()


def _without_shells(text: str) -> str:
    """Groups that say nothing are unwrapped, what is invisible goes."""
    text = re.sub(r'<path [^>]*style="fill: none; opacity: 0"/>', "", text)
    says: list[bool] = []

    def group(tag: re.Match[str]) -> str:
        if tag[0] == "</g>":
            return "</g>" if says.pop() else ""
        says.append(tag[0] != "<g>")
        return tag[0] if says[-1] else ""

    return re.sub(r"<g(?: [^>]*)?>|</g>", group, text)


def _rename(text: str) -> str:
    """Names that nothing refers to go; the others are short, and no other picture of a page has them."""
    used = dict.fromkeys(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    prefix = f"i{hashlib.sha256(text.encode()).hexdigest()[:8]}-"
    names = {name: f"{prefix}{number}" for number, name in enumerate(used)}
    text = re.sub(r' id="([^"]*)"', lambda match: f' id="{names[match[1]]}"' if match[1] in names else "", text)
    return re.sub(r'(url\(#|href="#)([^")]+)', lambda match: match[1] + names[match[2]], text)


def dots(axis: Any, points: Sequence[tuple[float, float]], colour: str, size: float = 4, alpha: float = 0.7) -> None:
    """Many dots as one path of strokes without length and with round ends: a tenth of what one element a dot takes."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if not points:
        return
    path = Path([point for point in points for _ in (0, 1)], [Path.MOVETO, Path.LINETO] * len(points))
    axis.add_patch(
        PathPatch(path, fill=False, edgecolor=colour, linewidth=size, capstyle="round", alpha=alpha, zorder=3)
    )


def said(axis: Any, text: str, at: tuple[float, float], colour: str = MUTED, **how: Any) -> None:
    """Text at a place of the axes, both from 0 to 1."""
    axis.text(*at, text, transform=axis.transAxes, color=colour, fontsize=SMALL, **how)


def doubt(axis: Any, text: str, height: float = 0.97) -> None:
    """A picture may be cut out of its page: where its numbers are not valid, it says so itself."""
    axis.text(0.99, height, text, transform=axis.transAxes, ha="right", va="top", color=BAD,
              fontsize=13, fontweight="bold", zorder=6)  # fmt: skip


def series(row: int) -> str:
    return SERIES[row % len(SERIES)]


def time_unit(ns: float) -> tuple[str, float]:
    """The unit that suits a latency, and how many ns it has."""
    return ("s", 1e9) if ns >= 1e10 else ("ms", 1e6) if ns >= 1e5 else ("µs", 1e3)


def figures(value: float) -> str:
    """Three significant figures, trailing zeros kept: `9.50`, `12.3`, `1234`."""
    digits = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, digits)}f}"


def duration(ns: float) -> str:
    """`9.50 ms`."""
    unit, scale = time_unit(ns)
    return f"{figures(ns / scale)} {unit}"


def metric_name(metric: str) -> str:
    """A metric as axes and tables have room for it: the digest of a callable's code is the manifest's matter."""
    return metric.partition(" sha256:")[0] or "score"


def byte_size(size: float) -> str:
    """`22 KB`, `1.3 MB`: powers of ten, two figures at least."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= scale:
            value = size / scale
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.2g} {unit}"
    return f"{size:.0f} B"


def standalone(drawn: Picture) -> str:
    """A picture as an SVG file of its own: with the page's colours, light and dark, and its own paper, for a README.

    The paper matters where the page around it is dark and the reader's system light, or the other way round.
    """
    style = resources.files("edgepack.reports").joinpath("style.css").read_text("utf-8")
    colours = style[: style.index("* {")].replace("color-scheme: light dark;", "")
    own = "svg { background: var(--paper); stroke-linejoin: round; } text { font-family: system-ui, sans-serif !important; }"
    return drawn.wide.replace("</title>", f"</title><style>{colours}{own}</style>", 1) + "\n"
