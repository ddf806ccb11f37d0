"""A model's table, its document, and the picture of all models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressing import methods
from compressing.comparing import Compared
from compressing.judging import Bar, Row

COLORS = {
    "float": "#888888",
    "onnxruntime": "#1f77b4",
    "ai-edge": "#2ca02c",
    "nncf": "#9467bd",
    "olive": "#ff7f0e",
    "edgepack": "#d62728",
}

HEADER = (
    f"{'':34} {'format':6} {'score':>6} {'drop, points':>13} {'agree':>6} {'SQNR':>6} {'KB':>7} {'size':>5} "
    f"{'ms':>7} {'time':>5} {'wall s':>7} {'import':>6} {'CPU s':>6} {'MiB':>5}"
)
LEGEND = (
    "score: top-1, %; drop: from the float file's score, with the 95 % interval of the paired difference (within it: a tie);",
    "agree: same top-1 as the float file, %; SQNR: of the outputs against its, dB; size, time: share of its;",
    "ms: one inference on one thread, fresh processes in turns, the least of their medians;",
    "wall, import, CPU, MiB: of the process that made the file, seconds and peak memory.",
)


def table(compared: Compared) -> str:
    floats = {row.format: row for row in compared.rows if row.kind == "float"}
    lines = [f"\n{compared.model.title}: {compared.note}"]
    lines.append(HEADER)
    lines += [_line(row, floats[row.format]) for row in compared.rows if row.shown]
    lines += [f"{title:34} no file: {why}" for title, why in compared.failed]
    lines += [f"  {_verdict(bar)}  {bar.claim}: {bar.found}" for bar in compared.bars]
    return "\n".join(lines)


def _line(row: Row, parent: Row) -> str:
    drop = "" if row.kind == "float" else f"{100 * row.drop:+.1f} ± {100 * row.noise:.1f}"
    agreement = "" if row.kind == "float" else f"{100 * row.agreement:.1f}"
    decibels = "" if row.kind == "float" else f"{row.sqnr_db:.1f}"
    known = row.milliseconds is not None and parent.milliseconds is not None
    latency = (
        f"{row.milliseconds:7.3f} {row.milliseconds / parent.milliseconds:5.2f}" if known else f"{'–':>7} {'–':>5}"
    )
    return (
        f"{row.title:34} {row.format:6} {100 * row.score:6.1f} {drop:>13} {agreement:>6} {decibels:>6} "
        f"{row.size / 1e3:7.1f} {row.size / parent.size:5.2f} {latency} "
        f"{row.cost.wall:7.1f} {row.imports:6.1f} {row.cost.cpu:6.1f} {row.cost.peak:5.0f}"
    )


def _verdict(bar: Bar) -> str:
    return {True: "met   ", False: "MISSED", None: "–     "}[bar.met]


def footnotes() -> str:
    return "\n".join(("", *LEGEND, *(f"  {line}" for line in methods.CONFIGURATIONS)))


def document(compared: Compared) -> dict[str, Any]:
    """As `--json` writes it."""
    return {
        "model": compared.model.name,
        "title": compared.model.title,
        "evaluation": compared.note,
        "rows": [
            {
                "method": row.title,
                "who": row.who,
                "format": row.format,
                "kind": row.kind,
                "score": row.score,
                "drop": row.drop,
                "drop_noise": row.noise,
                "agreement": row.agreement,
                "sqnr_db": row.sqnr_db,
                "size_bytes": row.size,
                "latency_ms": row.milliseconds,
                "wall_s": row.cost.wall,
                "import_s": row.imports,
                "cpu_s": row.cost.cpu,
                "peak_mib": row.cost.peak,
            }
            for row in compared.rows
        ],
        "failed": [{"method": title, "reason": why} for title, why in compared.failed],
        "bars": [{"claim": bar.claim, "met": bar.met, "found": bar.found} for bar in compared.bars],
    }


def picture(every: Sequence[Compared], out: Path) -> None:
    """One panel a model: size against SQNR, every int8 file a mark; upwards and to the left is better."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "edgepack", "svg.fonttype": "none"})
    from matplotlib import pyplot

    columns = min(3, len(every))
    figure, axes = pyplot.subplots(
        -(-len(every) // columns),
        columns,
        figsize=(max(8, 4.2 * columns), 3.4 * -(-len(every) // columns)),
        squeeze=False,
    )
    for axis, compared in zip(axes.flat, every, strict=False):
        floats = {row.format: row for row in compared.rows if row.kind == "float"}
        for row in (row for row in compared.rows if row.kind in ("static", "dynamic")):
            marker = "o" if row.format == "onnx" else "^"
            axis.scatter(
                row.size / floats[row.format].size,
                row.sqnr_db,
                color=COLORS[row.who],
                marker=marker,
                s=42,
                alpha=0.8,
                linewidths=0,
            )
        axis.set_title(compared.model.title, fontsize=9)
        axis.set_xlabel("size, share of float", fontsize=8)
        axis.set_ylabel("SQNR against float, dB", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(every) :]:
        axis.set_axis_off()
    names = [name for name in COLORS if name != "float"]
    handles = [pyplot.Line2D([], [], color=COLORS[name], marker="s", linestyle="", label=name) for name in names]
    handles += [
        pyplot.Line2D([], [], color="k", marker=marker, linestyle="", label=label)
        for marker, label in (("o", "ONNX"), ("^", "TFLite"))
    ]
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, metadata={"Date": None})
