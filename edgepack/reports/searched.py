"""What a search found: every trial's score against its size and, where a board measured, its latency; the front of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgepack.reports import html
from edgepack.reports.drawing import byte_size, metric_name
from edgepack.reports.fronts import Point, Scale, front_picture
from edgepack.reports.html import Column, Content, Markup, element
from edgepack.variant import Built


@dataclass(frozen=True)
class Trial:
    """name: of the recipe, for people; front: none other beats it in score, size and cost at once"""

    number: int
    name: str
    built: Built
    front: bool


@dataclass(frozen=True)
class Search:
    """recipes: how many there are; baseline: the source's score on the half that the search saw, None where nothing was scored

    searched_on, held_out: samples of each half; metric: its name; measured: whether a board measured every trial
    """

    trials: tuple[Trial, ...]
    recipes: int
    searched_on: int
    held_out: int
    metric: str
    baseline: float | None
    measured: bool


def chapter(search: Search) -> Markup:
    front = [trial for trial in search.trials if trial.front]
    cost = "median latency on the target" if search.measured else "expected cost: nothing was measured"
    halves = (
        f" Scores here are of the {search.searched_on} samples that the search saw; those of the bundle are of {search.held_out} "
        "others, which it never saw."
        if search.searched_on
        else " Nothing was scored: the SQNR against the source stands in."
    )
    return html.join(
        [
            element("h2", "What the search found"),
            element(
                "p",
                f"{len(search.trials)} trials over {search.recipes} recipes; {len(front)} are on the front of score, size and "
                f"{cost}.{halves}",
            ),
            *([_figure(search, "latency")] if search.measured else []),
            _figure(search, "size"),
            _table(search, front),
        ]
    )


def _figure(search: Search, against: Literal["size", "latency"]) -> Markup:
    x = Scale("size of the model file", "bytes") if against == "size" else Scale("median latency", "ms")
    points = [point for point in _points(search, against) if math.isfinite(point.y)]
    title = f"Accuracy against {against} of every trial"
    return html.figure(
        front_picture(title, points, x, _score_scale(search)),
        element(
            "span",
            element("span", "on the front", kind="mark kept"),
            ", ",
            element("span", "beaten", kind="mark rejected"),
            ". A number is a trial’s; the table has the recipes.",
        ),
    )


def _points(search: Search, against: Literal["size", "latency"]) -> Iterator[Point]:
    for trial in search.trials:
        built = trial.built
        x = float(built.size_bytes) if against == "size" else built.latency_ms
        y = built.score if search.baseline is not None else built.parity.sqnr_db
        if x is not None and y is not None:
            yield Point(str(trial.number), x, y, "kept" if trial.front else "rejected")


def _score_scale(search: Search) -> Scale:
    """Whether a higher score is better shows in how scores and drops are related."""
    baseline = search.baseline
    if baseline is None:
        return Scale("SQNR against the source, dB", better="higher")
    pairs = [(trial.built.score, trial.built.drop) for trial in search.trials]
    lower = any((baseline - score) * drop < 0 for score, drop in pairs if score is not None and drop is not None)
    return Scale(f"{metric_name(search.metric)}, the search's half", "plain", "lower" if lower else "higher")


def _table(search: Search, front: list[Trial]) -> Markup:
    columns = [
        Column("trial", "number"),
        Column("recipe", "reason"),
        *(Column(title, "number") for title in ("size", metric_name(search.metric), "SQNR, dB")),
        *([Column("median, ms", "number")] if search.measured else []),
    ]
    rows: list[list[Content]] = [
        [
            str(trial.number),
            trial.name,
            byte_size(trial.built.size_bytes),
            "–" if trial.built.score is None else f"{trial.built.score:.4f}",
            f"{trial.built.parity.sqnr_db:.1f}",
            *(
                [f"{trial.built.latency_ms:.3f}" if trial.built.latency_ms is not None else "–"]
                if search.measured
                else []
            ),
        ]
        for trial in sorted(front, key=lambda trial: trial.built.size_bytes)
    ]
    return html.table("The front", columns, rows, heads=1)
