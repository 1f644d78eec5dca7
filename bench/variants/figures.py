"""Figures of variants: bars of an ablation, curves and heat maps of a sensitivity study.

Every value is printed, and every interval says what it covers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.drawing import COLOURS, GREY, panels, score_label, title
from bench.layout import LayoutColumn
from bench.report import Drawing
from bench.scores.metrics import Metric, metric_named
from bench.variants.tables import INTERVALS, Comparison, Estimate, Series, score_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALE = "#9ecae1"  # of the bars beside the reference
PER_ROW = 4  # panels side by side
MARGIN = 0.15  # of the range shown, on either side
FIELDS = ("panel", "row", "mean", "low", "high", "repeats")


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


# --- bars -------------------------------------------------------------------------------------


def draw_bars(comparison: Comparison, metric_name: str, heading: str, name: str) -> Drawing:
    """Draw a bar per variant: AVG first, then each column of the table (CMML, Figure 4)."""
    metric = metric_named(metric_name)
    rows = comparison.everyone
    shown = {"AVG": [comparison.average(each, metric_name) for each in rows]}
    for column in _single_columns(comparison):
        estimates = [comparison.at(each, metric_name, column.place) for each in rows]
        if not all(math.isnan(each.mean) for each in estimates):
            shown[column.name] = estimates
    longest = max(len(each.label) for each in rows)
    size = (1.9 + 0.03 * longest, 0.8 + 0.24 * len(rows))
    figure, axes = panels(len(shown), PER_ROW, size)
    for i, (axis, (header, found)) in enumerate(zip(axes, shown.items(), strict=True)):
        _draw_bar_panel(axis, found, rows, comparison.reference, metric)
        axis.set_title(header, fontsize=8)
        axis.tick_params(labelleft=i % PER_ROW == 0)
    note = f"{score_label(metric_name)}; axes need not start at 0. 95 % intervals: "
    title(figure, heading, f"{note}{INTERVALS[comparison.design]}.")
    labels = [each.label for each in rows]
    lines = [
        line for header, found in shown.items() for line in _lines(header, labels, found, metric)
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
            axis.text(
                1.02, place, f"{mean:.{metric.digits}f}", va="center", fontsize=8, transform=at
            )


def _errors(means: Sequence[float], ends: np.ndarray) -> np.ndarray:
    """Turn the ends of intervals, (n, 2), into distances below and above the means: (2, n)."""
    middle = np.asarray(means)
    return np.abs(np.stack([middle - ends[:, 0], ends[:, 1] - middle]))


# --- curves -----------------------------------------------------------------------------------


def draw_curves(
    sweeps: Mapping[str, Mapping[str, Comparison]], metric_name: str, heading: str, name: str
) -> Drawing:
    """Draw AVG against the values of each parameter, a panel per parameter (CMML, Figures 6, 7).

    Args:
        sweeps: parameter -> dataset -> the variants in the order of their values; their reference
            is drawn as a horizontal line.
        metric_name: whose AVG.
        heading: of the figure.
        name: of its files.
    """
    metric = metric_named(metric_name)
    lines: list[tuple[object, ...]] = []
    figure, axes = panels(len(sweeps), PER_ROW, (3.4, 2.6))
    for axis, (parameter, by_dataset) in zip(axes, sweeps.items(), strict=True):
        labels = [_value(each) for each in next(iter(by_dataset.values())).series]
        for colour, (dataset, comparison) in zip(COLOURS, by_dataset.items(), strict=False):
            _draw_curve(axis, comparison, metric, dataset, colour)
            found = [comparison.average(each, metric_name) for each in comparison.everyone]
            rows = [f"{dataset}: {each.label}" for each in comparison.everyone]
            lines += _lines(parameter, rows, found, metric)
        axis.set_xticks(range(len(labels)), labels)
        axis.set_xlim(-0.4, len(labels) - 0.6)
        axis.set_xlabel(parameter, fontsize=8)
        axis.set_ylabel(f"AVG {score_label(metric_name)}", fontsize=8)
        axis.legend(fontsize=7, frameon=False)
    designs = {each.design for by_dataset in sweeps.values() for each in by_dataset.values()}
    title(figure, heading, f"95 % intervals: {'; '.join(INTERVALS[d] for d in sorted(designs))}.")
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


def draw_grid(comparison: Comparison, metric_name: str, heading: str, name: str) -> Drawing:
    """Draw AVG over the first two parameters of a grid as a heat map; others make panels."""
    metric = metric_named(metric_name)
    parameters = _axes_of(comparison)
    n_rows, n_columns = (len(values) for _, values in parameters[:2])
    maps: dict[str, dict[tuple[str, str], float]] = {}
    for each in comparison.series:
        (_, row), (_, column), *rest = each.values
        panel = ", ".join(f"{key} = {value}" for key, value in rest)
        mean = metric.factor * comparison.average(each, metric_name).mean
        maps.setdefault(panel, {})[str(row), str(column)] = mean
    size = (1.6 + 0.6 * n_columns, 1.2 + 0.35 * n_rows)
    figure, axes = panels(len(maps), PER_ROW, size)
    known = [mean for cells in maps.values() for mean in cells.values() if not math.isnan(mean)]
    ends = (min(known, default=0.0), max(known, default=1.0))
    for axis, (panel, cells) in zip(axes, maps.items(), strict=True):
        _draw_map(axis, cells, parameters, ends, metric)
        axis.set_title(panel, fontsize=8)
    title(figure, heading, f"AVG {score_label(metric_name)}, mean over repeats.")
    found = [comparison.average(each, metric_name) for each in comparison.series]
    lines = _lines("AVG", [each.label for each in comparison.series], found, metric)
    return Drawing(name, figure, pd.DataFrame(lines, columns=FIELDS))


def _draw_map(
    axis: Axes,
    cells: Mapping[tuple[str, str], float],
    parameters: Sequence[tuple[str, list[str]]],
    ends: tuple[float, float],
    metric: Metric,
) -> None:
    """Draw one heat map with the value in every cell."""
    (row_name, rows), (column_name, columns), *_ = parameters
    image = np.array([[cells.get((r, c), math.nan) for c in columns] for r in rows])
    axis.imshow(image, cmap="viridis", vmin=ends[0], vmax=ends[1], aspect="auto")
    for (r, c), mean in np.ndenumerate(image):
        colour = "black" if mean > sum(ends) / 2 else "white"
        text = f"{mean:.{metric.digits}f}"
        axis.text(c, r, text, ha="center", va="center", color=colour, fontsize=7)
    axis.set_xticks(range(len(columns)), columns)
    axis.set_yticks(range(len(rows)), rows)
    axis.set_xlabel(column_name, fontsize=8)
    axis.set_ylabel(row_name, fontsize=8)


def _axes_of(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """List the parameters of a grid with their values, in order of appearance."""
    values: dict[str, dict[str, None]] = {}
    for each in comparison.series:
        for name, value in each.values:
            values.setdefault(name, {})[str(value)] = None
    return [(name, list(found)) for name, found in values.items()]
