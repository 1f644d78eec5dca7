"""Slopes: each repeat's AVG from the reference to every other row, a panel per row.

What a mean hides is whether a row is ahead in every repeat or in some: rising lines are repeats in
which it scores higher than the reference, the row asked for or else the first that finished.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

from bench.drawing import (
    BLUE,
    GREY,
    ORANGE,
    LayoutFigure,
    file_name,
    panels,
    score_label,
    title,
    without_stragglers,
)
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.reporting.differences import Rows
from bench.scores.metrics import Metric, metric_named

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PER_ROW = 6
PANEL_INCHES = (1.45, 2.1)


class Slopes(LayoutFigure):
    """Scores repeat by repeat."""

    name = "slopes"
    display_name = "Slopes over repeats"
    needs = "two finished rows"

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw two finished rows or more, a figure per metric and block."""
        rows = Rows.of(contents)
        if len(rows.grids) < 2:
            return
        metrics = [metric_named(name) for name in contents.options.metrics]
        drawings = (_drawing(rows, *each) for each in product(contents.blocks, metrics))
        yield from filter(None, drawings)


def _drawing(rows: Rows, block: str, metric: Metric) -> Drawing | None:
    """Draw one block of columns; nothing if no row shares a repeat with the reference."""
    import pandas as pd

    layout, reference = rows.contents.layout, rows.reference
    data = pd.DataFrame(_lines(rows, metric, block, reference))
    if not len(data):
        return None
    others = list(dict.fromkeys(data["method"]))
    figure, axes = panels(len(others), PER_ROW, PANEL_INCHES, sharey=True)
    scores = [*data["reference_score"], *data["score"]]
    limits = without_stragglers(scores, metric.better, margin=0.1)
    for i, (ax, other) in enumerate(zip(axes, others, strict=True)):
        _draw_panel(ax, data[data["method"] == other], metric)
        ax.set_title(textwrap.fill(other.replace("-", "- "), 16).replace("- ", "-"), fontsize=8)
        ax.set_ylim(limits)
        if i % PER_ROW == 0:
            ax.set_ylabel(f"AVG {score_label(metric.name)}", fontsize=8)
    heading = ", ".join(filter(None, [layout.title, block]))
    note = (
        f"Left: {reference}; right: the row named above. A line is a repeat (fold, seed): blue "
        "where the row is better, orange where it is worse, grey where both are equal. Below: the "
        "mean difference. Lines may leave the panel."
    )
    title(figure, f"{heading}: {metric.name}, repeat by repeat", note)
    return Drawing(file_name(Slopes.name, layout.title, block, metric.name), figure, data)


def _lines(rows: Rows, metric: Metric, block: str, reference: str) -> Iterator[dict[str, Any]]:
    columns = rows.columns(metric.name, block)
    before = rows.values(reference, metric.name, columns)
    for label in rows.grids:
        if label == reference:
            continue
        after = rows.values(label, metric.name, columns)
        for repeat in sorted(set(before) & set(after)):
            yield {
                "table": rows.contents.layout.title,
                "block": block,
                "method": label,
                "reference": reference,
                "metric": metric.name,
                "unit": metric.unit,
                "fold": repeat[0],
                "seed": repeat[1],
                "reference_score": metric.factor * before[repeat],
                "score": metric.factor * after[repeat],
            }


def _draw_panel(ax: Axes, lines: pd.DataFrame, metric: Metric) -> None:
    sign = 1.0 if metric.better == "higher" else -1.0
    pairs = zip(lines["reference_score"].tolist(), lines["score"].tolist(), strict=True)
    for before, after in pairs:
        gain = sign * (after - before)
        colour = BLUE if gain > 0 else ORANGE if gain < 0 else GREY
        ax.plot([0, 1], [before, after], color=colour, marker="o", markersize=3.5, linewidth=1.2)
    mean = (lines["score"] - lines["reference_score"]).mean()
    ax.set_xlabel(f"{mean:+.{metric.digits}f}", fontsize=8)
    ax.set_xlim(-0.25, 1.25)
    ax.set_xticks([0, 1], ["ref.", "row"])
    ax.grid(axis="y", alpha=0.25, linewidth=0.5)


PLUGIN = Slopes
