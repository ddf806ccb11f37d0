"""What static quantization did to each layer: where in the net the error comes in, as a picture and as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgepack.reports import html
from edgepack.reports.drawing import ACCENT, BAD, SMALL, WIDE, Picture, picture, sheet, svg
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.variant import LayerReport

_NAMED = 3


def layers_picture(layers: Sequence[LayerReport]) -> Picture:
    """SQNR of each layer in the graph's order, the worst named."""
    return picture("Signal to quantization noise of each layer", lambda width: _draw(layers, width))


def _draw(layers: Sequence[LayerReport], width: int) -> str:
    known = [(index, layer) for index, layer in enumerate(layers, 1) if math.isfinite(layer.sqnr_db)]
    with sheet(width, 190) as (figure, (axis,)):
        at, db = [index for index, _ in known], [layer.sqnr_db for _, layer in known]
        axis.vlines(at, 0, db, color=ACCENT, linewidth=1.6, alpha=0.5)
        axis.plot(at, db, linestyle="", marker="o", markersize=5, color=ACCENT)
        for index, layer in sorted(known, key=lambda pair: pair[1].sqnr_db)[: 1 if width < WIDE else _NAMED]:
            axis.plot([index], [layer.sqnr_db], linestyle="", marker="o", markersize=6.5, color=BAD)
            axis.annotate(str(index), (index, layer.sqnr_db), xytext=(0, 6), color=BAD, textcoords="offset points",
                          fontsize=SMALL, ha="center")  # fmt: skip
        axis.set_xlim(0.3, len(layers) + 0.7)
        axis.set_ylim(min(0.0, *db, 0.0), max(*db, 10.0) * 1.1)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_xlabel("layer, in the order they compute")
        axis.set_ylabel("SQNR, dB")
        axis.grid(visible=False, axis="x")
        return svg(figure)


def chapter(name: str, layers: Sequence[LayerReport]) -> list[Markup]:
    """Nothing where nothing was quantized statically."""
    if not any(math.isfinite(layer.sqnr_db) for layer in layers):
        return []
    rows: list[list[Content]] = [
        [
            str(index),
            layer.kind,
            layer.name,
            f"{layer.sqnr_db:.1f}",
            f"{layer.cosine:.5f}",
            f"{layer.low:.3g} … {layer.high:.3g}",
            f"{100 * layer.clipped:.2f} %",
            f"{100 * layer.shift:.2f} %",
        ]
        for index, layer in enumerate(layers, 1)
    ]
    numbers = ("SQNR, dB", "cosine", "range", "clipped", "bias corrected by")
    columns = [Column("layer"), Column("kind"), Column("name", "reason"), *(Column(n, "number") for n in numbers)]
    return [
        element("h3", f"Layer by layer: {name}"),
        html.figure(
            layers_picture(layers),
            "Each layer’s output beside the float file’s, all layers before it quantized too. The worst are numbered.",
        ),
        html.folded(f"The {len(rows)} layers as numbers", html.table(f"Layers of {name}", columns, rows)),
    ]
