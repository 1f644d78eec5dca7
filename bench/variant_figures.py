"""Figures of variants: bars of an ablation, curves and heat maps of a sensitivity study.

matplotlib draws without a display; nothing imports this file before a figure is wanted. Colours
are told apart by the colour-blind, and every value is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.layout import LayoutColumn
from bench.report import Drawing
from bench.results import Metric, metric_named
from bench.variant_tables import INTERVALS, Comparison, Estimate, Series, score_range

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
PALE, GREY = "#9ecae1", "#666666"
STYLE: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # letters stay letters, as journals ask
}
PER_ROW = 4  # panels side by side
MARGIN = 0.15  # of the range shown, on either side
FIELDS = ("panel", "row", "mean", "low", "high", "repeats")


def make_panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure of n panels, `PER_ROW` side by side, each of this size in inches."""
    n_columns = min(n, PER_ROW)
    n_rows = math.ceil(n / n_columns)
    figure = Figure((width * n_columns, height * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).flatten().tolist()
    for spare in axes[n:]:
        spare.set_visible(False)
    return figure, axes[:n]


def _ends(found: Sequence[Estimate], metric: Metric) -> np.ndarray:
    """Return the ends of the intervals, (n, 2), in the metric's unit; the mean if there is none."""
    means = [metric.factor * each.mean for each in found]
    ranges = [score_range(each, metric) for each in found]
    return np.array([ends or (mean, mean) for ends, mean in zip(ranges, means, strict=True)])


def _limits(ends: np.ndarray) -> tuple[float, float] | None:
    """Return the limits of an axis that holds all intervals, (n, 2); None if nothing is there."""
    if np.isnan(ends).all():
        return None
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = MARGIN * (high - low) or 1.0
    return low - room, high + room


def _lines(
    panel: str, rows: Sequence[str], found: Sequence[Estimate], metric: Metric
) -> list[tuple[object, ...]]:
    """Lay out what a panel shows, a line of the CSV per row."""
    return [
        (panel, row, metric.factor * each.mean, low, high, each.n_repeats)
        for row, each, (low, high) in zip(rows, found, _ends(found, metric).tolist(), strict=True)
    ]


def _unit(metric: Metric) -> str:
    return f" ({metric.unit})" if metric.unit else ""


# --- bars -------------------------------------------------------------------------------------


def draw_bars(comparison: Comparison, metric_name: str, title: str, name: str) -> Drawing:
    """Draw a bar per variant: AVG first, then each column of the table (CMML, Figure 4)."""
    metric = metric_named(metric_name)
    columns = _single_columns(comparison)
    rows = comparison.everyone
    panels = {"AVG": [comparison.average(each, metric_name) for each in rows]}
    for column in columns:
        estimates = [comparison.at(each, metric_name, column.place) for each in rows]
        if not all(math.isnan(each.mean) for each in estimates):
            panels[column.name] = estimates
    longest = max(len(each.label) for each in rows)
    with mpl.rc_context(STYLE):
        figure, axes = make_panels(len(panels), 1.7 + 0.03 * longest, 0.7 + 0.24 * len(rows))
        for i, (axis, (header, found)) in enumerate(zip(axes, panels.items(), strict=True)):
            _draw_bar_panel(axis, found, rows, comparison.reference, metric)
            axis.set_title(header)
            axis.tick_params(labelleft=i % PER_ROW == 0)
        figure.suptitle(title, fontsize=9)
        words = f"{metric.name}{_unit(metric)}; axes need not start at 0. 95 % intervals: "
        figure.supxlabel(f"{words}{INTERVALS[comparison.design]}.", fontsize=7)
    labels = [each.label for each in rows]
    lines = [
        line for header, found in panels.items() for line in _lines(header, labels, found, metric)
    ]
    return Drawing(name, figure, pd.DataFrame(lines, columns=FIELDS))


def _single_columns(comparison: Comparison) -> list[LayoutColumn]:
    """List one column per place."""
    return list({column.place: column for column in comparison.layout.columns}.values())


def _draw_bar_panel(
    axis: Axes,
    found: Sequence[Estimate],
    rows: Sequence[Series],
    reference: Series,
    metric: Metric,
) -> None:
    means, ends = [metric.factor * each.mean for each in found], _ends(found, metric)
    limits = _limits(ends)
    if limits is None:
        return
    places = np.arange(len(rows))
    lengths = np.array(means) - limits[0]  # a bar begins where the axis does
    colours = [COLOURS[0] if each is reference else PALE for each in rows]
    axis.barh(places, lengths, left=limits[0], color=colours, height=0.7)
    axis.errorbar(means, places, xerr=_errors(means, ends), fmt="none", ecolor=GREY, elinewidth=1)
    axis.set_yticks(places, [each.label for each in rows])
    axis.set(xlim=limits, ylim=(len(rows) - 0.5, -0.5))
    for place, mean in enumerate(means):
        if not math.isnan(mean):
            at = axis.get_yaxis_transform()  # x in shares of the panel, y in rows
            axis.text(1.02, place, f"{mean:.{metric.digits}f}", va="center", transform=at)


def _errors(means: Sequence[float], ends: np.ndarray) -> np.ndarray:
    """Turn the ends of intervals, (n, 2), into distances below and above the means: (2, n)."""
    middle = np.asarray(means)
    return np.abs(np.stack([middle - ends[:, 0], ends[:, 1] - middle]))


# --- curves -----------------------------------------------------------------------------------


def draw_curves(
    sweeps: Mapping[str, Mapping[str, Comparison]], metric_name: str, title: str, name: str
) -> Drawing:
    """Draw AVG against the values of each parameter, a panel per parameter (CMML, Figures 6, 7).

    Args:
        sweeps: parameter -> dataset -> the variants in the order of their values; their reference
            is drawn as a horizontal line.
        metric_name: whose AVG.
        title: of the figure.
        name: of its files.
    """
    metric = metric_named(metric_name)
    lines: list[tuple[object, ...]] = []
    with mpl.rc_context(STYLE):
        figure, axes = make_panels(len(sweeps), 3.4, 2.6)
        for axis, (parameter, by_dataset) in zip(axes, sweeps.items(), strict=True):
            labels = [_value(each) for each in next(iter(by_dataset.values())).series]
            for colour, (dataset, comparison) in zip(COLOURS, by_dataset.items(), strict=False):
                _draw_curve(axis, comparison, metric, dataset, colour)
                found = [comparison.average(each, metric_name) for each in comparison.everyone]
                rows = [f"{dataset}: {each.label}" for each in comparison.everyone]
                lines += _lines(parameter, rows, found, metric)
            axis.set_xticks(range(len(labels)), labels)
            axis.set_xlim(-0.4, len(labels) - 0.6)
            axis.set_xlabel(parameter)
            axis.set_ylabel(f"AVG {metric.name}{_unit(metric)}")
            axis.legend(fontsize=7, frameon=False)
        ends = INTERVALS[next(iter(by_dataset.values())).design]
        figure.suptitle(title, fontsize=9)
        figure.supxlabel(f"95 % intervals: {ends}.", fontsize=7)
    return Drawing(name, figure, pd.DataFrame(lines, columns=FIELDS))


def _value(series: Series) -> str:
    """Return the text of a series' own value, the last that was set."""
    return str(series.values[-1][1])


def _draw_curve(
    axis: Axes, comparison: Comparison, metric: Metric, dataset: str, colour: str
) -> None:
    found = [comparison.average(each, metric.name) for each in comparison.series]
    means = [metric.factor * each.mean for each in found]
    errors = _errors(means, _ends(found, metric))
    x = np.arange(len(means))
    axis.errorbar(x, means, errors, fmt="o", color=colour, capsize=2, lw=1, label=dataset)
    numeric = [isinstance(each.values[-1][1], int | float) for each in comparison.series]
    joined = np.where(numeric, means, np.nan)  # a word, as `mean`, is no point of a curve
    axis.plot(x, joined, color=colour)
    default = metric.factor * comparison.average(comparison.reference, metric.name).mean
    if not math.isnan(default):
        axis.axhline(default, color=colour, lw=0.8, ls=":", label=f"{dataset}, default")
    for place, mean in enumerate(means):
        if not math.isnan(mean):
            text = f"{mean:.{metric.digits}f}"
            axis.annotate(text, (place, mean), (4, 4), textcoords="offset points", fontsize=7)


# --- grids ------------------------------------------------------------------------------------


def draw_grid(comparison: Comparison, metric_name: str, title: str, name: str) -> Drawing:
    """Draw AVG over the first two parameters of a grid as a heat map; others make panels."""
    metric = metric_named(metric_name)
    (row_name, rows), (column_name, columns), *_ = _axes_of(comparison)
    panels: dict[str, dict[tuple[str, str], float]] = {}
    for each in comparison.series:
        (_, row), (_, column), *rest = each.values
        panel = ", ".join(f"{key} = {value}" for key, value in rest)
        mean = metric.factor * comparison.average(each, metric_name).mean
        panels.setdefault(panel, {})[str(row), str(column)] = mean
    filled = [mean for cells in panels.values() for mean in cells.values() if not math.isnan(mean)]
    low, high = min(filled, default=0.0), max(filled, default=1.0)
    with mpl.rc_context(STYLE):
        figure, axes = make_panels(len(panels), 1.4 + 0.6 * len(columns), 1.2 + 0.35 * len(rows))
        for axis, (panel, cells) in zip(axes, panels.items(), strict=True):
            image = np.array([[cells.get((r, c), math.nan) for c in columns] for r in rows])
            axis.imshow(image, cmap="viridis", vmin=low, vmax=high, aspect="auto")
            for (r, c), mean in np.ndenumerate(image):
                colour = "black" if mean > (low + high) / 2 else "white"
                axis.text(c, r, f"{mean:.2f}", ha="center", va="center", color=colour, fontsize=7)
            axis.set_xticks(range(len(columns)), columns)
            axis.set_yticks(range(len(rows)), rows)
            axis.set(xlabel=column_name, ylabel=row_name, title=panel)
        figure.suptitle(f"{title}: AVG {metric.name}{_unit(metric)}", fontsize=9)
    found = [comparison.average(each, metric_name) for each in comparison.series]
    lines = _lines("AVG", [each.label for each in comparison.series], found, metric)
    return Drawing(name, figure, pd.DataFrame(lines, columns=FIELDS))


def _axes_of(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """List the parameters of a grid with their values, in order of appearance."""
    values: dict[str, dict[str, None]] = {}
    for each in comparison.series:
        for name, value in each.values:
            values.setdefault(name, {})[str(value)] = None
    return [(name, list(found)) for name, found in values.items()]
