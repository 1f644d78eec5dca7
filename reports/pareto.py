"""Score against cost: which rows no other row beats in both, joined by the frontier.

A panel per cost. Parameters, time of a prediction and of training are what the runs themselves
noted; MACs and latency are there once `bench complexity --study NAME` has measured the models.
Times are those of the machine at hand; what is not known of a row is left out of that panel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import (
    LayoutFigure,
    file_name,
    legend_beside,
    panels,
    score_label,
    styles,
    title,
    without_stragglers,
)
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.reporting.costs import costs_of
from bench.reporting.differences import Rows
from bench.scores.metrics import Metric, metric_named
from bench.scores.results import RunResult
from bench.wording import listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PER_ROW = 3
PANEL_INCHES = (2.9, 2.7)
DECADE = 10.0  # costs that differ by so much are drawn on a logarithmic axis
POINT: Any = {
    "markersize": 6.5,
    "markeredgecolor": "white",
    "markeredgewidth": 0.6,
    "clip_on": False,
}
COSTS = {
    "parameters": "parameters",
    "macs": "MACs of a complete case",
    "latency": "latency of a complete case, ms",
    "milliseconds": "prediction, ms per case and condition",
    "training_seconds": "training, s per run",
}


class Pareto(LayoutFigure):
    """Score against parameters and time."""

    name = "pareto"
    display_name = "Score against cost"
    needs = "two finished rows"

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw two finished rows or more, a figure per metric and block."""
        import pandas as pd

        rows = Rows.of(contents)
        for block in contents.blocks if len(rows.grids) > 1 else ():
            for metric in map(metric_named, contents.options.metrics):
                data = pd.DataFrame(_lines(rows, metric, block))
                costs = [name for name in COSTS if len(data) and data[name].notna().any()]
                if costs:
                    shown = contents.layout.title
                    name = file_name(self.name, shown, block, metric.name)
                    heading = ", ".join(filter(None, [shown, block]))
                    yield Drawing(name, _figure(data, metric, costs, heading), data)


def _lines(rows: Rows, metric: Metric, block: str) -> Iterator[dict[str, Any]]:
    """Yield a line per row that has an AVG; costs that no run noted are NaN."""
    columns = rows.columns(metric.name, block)
    settings = {column.setting for column in columns}
    for label, row in rows.by_label.items():
        score = rows.grids[label].average(metric.name, [column.place for column in columns]).mean
        runs = [run for run in row.done if run.setting in settings]
        if not isnan(score):
            yield {
                "table": rows.contents.layout.title,
                "block": block,
                "method": label,
                "metric": metric.name,
                "unit": metric.unit,
                "score": metric.factor * score,
                "parameters": _mean(run.facts.get("n_parameters") for run in runs),
                "macs": _mean(each["macs"] for each in costs_of(runs)),
                "latency": _mean(1000 * (each["seconds"] or 0) for each in costs_of(runs)),
                "milliseconds": _mean(_milliseconds(run) for run in runs),
                "training_seconds": _mean(run.facts.get("fit_seconds") for run in runs),
            }


def _milliseconds(run: RunResult) -> float | None:
    n_predictions = sum(len(part[0]) for part in run.parts.values())
    seconds = run.facts.get("predict_seconds")
    return 1000 * seconds / n_predictions if seconds and n_predictions else None


def _mean(values: Iterator[float | None]) -> float:
    """Average what is known and above zero, as a logarithmic axis wants it."""
    known = [float(value) for value in values if value]
    return float(np.mean(known)) if known else nan


def _figure(data: pd.DataFrame, metric: Metric, costs: Sequence[str], name: str) -> Any:
    from matplotlib.lines import Line2D

    looks = styles(list(data["method"]))
    per_row = min(len(costs), PER_ROW)
    figure, axes = panels(len(costs), per_row, PANEL_INCHES, sharey=True)
    axes[0].set_ylim(without_stragglers(data["score"].tolist(), metric.better))
    for ax, cost in zip(axes, costs, strict=True):
        _draw_panel(ax, data[data[cost].notna()], cost, metric, looks)
        ax.set_xlabel(COSTS[cost], fontsize=8)
    for ax in axes[::per_row]:
        ax.set_ylabel(f"AVG {score_label(metric.name)}", fontsize=8)
    handles = [Line2D([], [], linestyle="", label=method, **look) for method, look in looks.items()]
    legend_beside(figure, handles)
    without = data.loc[data[list(costs)].isna().any(axis=1), "method"]
    absent = f" A panel lacks what has no number in it: {listed(without)}." if len(without) else ""
    note = (
        "Line: rows that no other row beats in both, cheaper and better. Means over runs; times "
        f"are those of the machine at hand. Points on the bad edge lie beyond it.{absent}"
    )
    title(figure, f"{name}: {metric.name} against cost", note)
    return figure


def _draw_panel(
    ax: Axes, lines: pd.DataFrame, cost: str, metric: Metric, looks: dict[str, dict[str, Any]]
) -> None:
    costs, scores = lines[cost].tolist(), lines["score"].tolist()
    sign = 1.0 if metric.better == "higher" else -1.0
    best = frontier(costs, [sign * score for score in scores])
    edge = [costs[i] for i in best], [scores[i] for i in best]
    ax.plot(*edge, color="#808080", linewidth=1, drawstyle="steps-post")
    low, high = ax.get_ylim()
    for method, x, score in zip(lines["method"], costs, scores, strict=True):
        shown = min(max(score, low), high)
        ax.plot(x, shown, linestyle="", **POINT, **looks[method])
    ax.grid(alpha=0.25, linewidth=0.5)
    _set_scale(ax, costs)


def _set_scale(ax: Axes, costs: Sequence[float]) -> None:
    """Make the axis of costs logarithmic where they differ much; print plain numbers."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

    if max(costs) >= DECADE * min(costs):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if _is_wide(costs) else (1.0, 3.0)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.xaxis.set_major_formatter(EngFormatter(sep="") if min(costs) >= 1 else "{x:g}")


def _is_wide(costs: Sequence[float]) -> bool:
    return max(costs) >= DECADE**2 * min(costs)


def frontier(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Return the places of what nothing beats in both, cheapest first; gains: higher is better."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i]))
    kept: list[int] = []
    for i in order:
        if not kept or gains[i] > gains[kept[-1]]:
            kept.append(i)
    return kept


PLUGIN = Pareto
