"""Where more scores worse: the change of score for every pair of columns of which one holds more.

A dot is a pair; what is left of zero is a violation: with more modalities, or fewer gaps, the
method does worse on the same cases. The number of violations stands beside each row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import BLUE, ORANGE, LayoutFigure, file_name, panels, title
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.reporting.differences import Rows
from bench.scores.metrics import Metric, metric_named
from bench.scores.monotonicity import compared, is_violation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROW_INCHES = 0.3
JITTER = 0.26  # of a row, to either side


class MonotonicityFigure(LayoutFigure):
    """Changes of score from less to more."""

    name = "monotonicity"
    display_name = "Monotonicity violations"
    needs = "a finished run with columns of which one holds more"

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw the columns of which one holds another, a panel per metric."""
        import pandas as pd

        rows = Rows.of(contents)
        metrics = [metric_named(name) for name in contents.options.metrics]
        data = pd.DataFrame([line for metric in metrics for line in _lines(rows, metric)])
        if len(data):
            name = file_name(self.name, contents.layout.title)
            yield Drawing(name, _figure(rows, metrics, data), data)


def _lines(rows: Rows, metric: Metric) -> Iterator[dict[str, Any]]:
    """Yield a line per row and pair; a positive gain is a score that is better with more."""
    sign = 1.0 if metric.better == "higher" else -1.0
    for label, row in rows.by_label.items():
        for pair in compared(row, rows.contents.columns, metric):
            smaller, larger = pair.score_smaller, pair.score_larger
            yield {
                "table": rows.contents.layout.title,
                "method": label,
                "metric": metric.name,
                "unit": metric.unit,
                "smaller": pair.smaller.name,
                "larger": pair.larger.name,
                "score_smaller": metric.factor * smaller,
                "score_larger": metric.factor * larger,
                "gain": sign * metric.factor * (larger - smaller),
                "violation": is_violation(pair, metric),
            }


def _figure(rows: Rows, metrics: Sequence[Metric], data: pd.DataFrame) -> Any:
    methods = list(dict.fromkeys(data["method"]))[::-1]
    size = (4.8, ROW_INCHES * len(methods) + 0.6)
    figure, axes = panels(len(metrics), 2, size, sharey=True)
    for ax, metric in zip(axes, metrics, strict=True):
        _draw_panel(ax, data[data["metric"] == metric.name], methods)
        unit = f", {metric.unit} points" if metric.unit else ""
        ax.set_xlabel(f"gain of {metric.name} from less to more{unit}", fontsize=8)
    note = (
        "A dot is a pair of columns of which one holds the other, scored on the cases of both, "
        "means over repeats; orange: worse with more. Beside: violations of pairs."
    )
    title(figure, f"{rows.contents.layout.title}: does more help?", note)
    return figure


def _draw_panel(ax: Axes, lines: pd.DataFrame, methods: Sequence[str]) -> None:
    ax.axvline(0, color="#404040", linewidth=0.8, linestyle=":")
    for place, method in enumerate(methods):
        own = lines[lines["method"] == method]
        heights = place + np.linspace(-JITTER, JITTER, len(own)) if len(own) > 1 else [place]
        violates = own["violation"].to_numpy(bool)
        for chosen, colour, marker in ((~violates, BLUE, "o"), (violates, ORANGE, "D")):
            x, y = own["gain"].to_numpy()[chosen], np.asarray(heights)[chosen]
            ax.scatter(x, y, s=14, color=colour, marker=marker, alpha=0.8, linewidths=0)
        at = ax.get_yaxis_transform()  # x in shares of the panel, y in rows
        text = f"{int(violates.sum())} of {len(own)}"
        ax.text(1.02, place, text, va="center", fontsize=7.5, transform=at)
    ax.set_yticks(range(len(methods)), methods)
    ax.set_ylim(-0.6, len(methods) - 0.4)
    ax.grid(axis="x", alpha=0.25, linewidth=0.5)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


PLUGIN = MonotonicityFigure
