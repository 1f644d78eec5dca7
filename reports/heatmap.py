"""Heat map of methods by subsets, with a matrix of dots below it that says what each subset holds.

Columns go from few modalities to many; every score is printed in its cell. Colours begin where no
more than stragglers are, so that one row far below the others does not hide their differences. What
is too wide for a page goes on in further figures, with the same colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import LayoutFigure, file_name, score_label, title
from bench.layout import LayoutColumn
from bench.report import Drawing
from bench.reporting.contents import AVERAGE, Contents
from bench.reporting.differences import Rows
from bench.scores.metrics import Metric, metric_named
from bench.wording import counted, listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

CELL_INCHES = (0.62, 0.3)
MOST_COLUMNS = 16  # of a figure that is legible at the width of a page
WHISKER = 1.5  # box heights below the box from which on a score is a straggler (Tukey 1977)
COLOURS = {"higher": "cividis", "lower": "cividis_r"}


class HeatMap(LayoutFigure):
    """Scores of methods by subsets of modalities."""

    name = "heatmap"
    display_name = "Heat map"
    needs = "a protocol that tests subsets, such as all-subsets"
    kinds = ("subsets",)

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw the subsets, a figure per metric and block."""
        rows = Rows.of(contents)
        for block in contents.blocks if rows.grids else ():
            for metric in map(metric_named, contents.options.metrics):
                columns = _by_size(rows.columns(metric.name, block))
                if columns:
                    yield from _drawings(rows, metric, block, columns)


def _by_size(columns: Sequence[LayoutColumn]) -> list[LayoutColumn]:
    """Sort by the number of modalities, then as the table does; unknown ones come last."""
    return sorted(columns, key=lambda column: len(column.subset or ()) or len(columns) + 1)


def _drawings(
    rows: Rows, metric: Metric, block: str, columns: Sequence[LayoutColumn]
) -> Iterator[Drawing]:
    """Draw some columns, with AVG of them all, in figures of about the same width."""
    import pandas as pd

    layout, n = rows.contents.layout, len(columns)
    data = pd.DataFrame(_cells(rows, metric, block, columns))
    limits = _colour_range(data["mean"].to_numpy(float), metric)
    heading = ", ".join(filter(None, [layout.title, block]))
    heading += f": {score_label(metric.name)}"
    n_figures = -(-n // MOST_COLUMNS)
    for i in range(n_figures):
        first, end = (k * n // n_figures for k in (i, i + 1))
        shown = columns[first:end]
        which = f", columns {first + 1} to {end} of {n}" if n_figures > 1 else ""
        part = data[data["condition"].isin([*(each.header for each in shown), AVERAGE])]
        figure = _figure(rows, metric, shown, part, limits, heading + which)
        number = str(i + 1) if n_figures > 1 else ""
        name = file_name(HeatMap.name, layout.title, block, metric.name, number)
        yield Drawing(name, figure, part)


def _cells(
    rows: Rows, metric: Metric, block: str, columns: Sequence[LayoutColumn]
) -> Iterator[dict[str, Any]]:
    """Yield a line per row and column, AVG last."""
    places = [([column.place], column) for column in columns]
    for label, grid in rows.grids.items():
        for chosen, column in [*places, ([each.place for each in columns], None)]:
            found = grid.average(metric.name, chosen)
            yield {
                "table": rows.contents.layout.title,
                "block": block,
                "method": label,
                "condition": column.header if column else AVERAGE,
                "condition_name": column.long_name if column else "mean of the columns",
                "metric": metric.name,
                "unit": metric.unit,
                "mean": metric.factor * found.mean,
                "sd": nan if found.spread is None else metric.factor * found.spread,
                "repeats": found.n_repeats,
            }


def _figure(
    rows: Rows,
    metric: Metric,
    columns: Sequence[LayoutColumn],
    data: Any,
    limits: tuple[float, float],
    heading: str,
) -> MatplotlibFigure:
    from matplotlib.figure import Figure as MatplotlibFigure

    labels = list(rows.grids)
    image = data["mean"].to_numpy(float).reshape(len(labels), len(columns) + 1)
    modalities = _modalities(columns)
    names = max(map(len, [*labels, *modalities.values()]))
    width = max(CELL_INCHES[0] * image.shape[1] + 0.075 * names + 0.9, 4.5)
    heights = (CELL_INCHES[1] * len(labels), 0.22 * max(len(modalities), 1))
    figure = MatplotlibFigure((width, sum(heights) + 1.1), layout="constrained")
    top, below = figure.subplots(2, 1, height_ratios=heights, sharex=True)
    _draw_cells(figure, top, image, metric, limits)
    top.set_yticks(range(len(labels)), labels)
    top.tick_params(length=0, labelsize=8, labelbottom=False)
    _draw_dots(below, columns, modalities)
    *fewer, most = sorted(set(data["repeats"].tolist()))
    counts = " or ".join([*map(str, fewer), counted(most, "repeat")])
    empty = [row.label for row in rows.contents.rows if not row.done]
    absent = f" Without a finished run: {listed(empty)}." if empty else ""
    title(figure, heading, f"Means over {counts}. AVG: mean of all columns.{absent}")
    return figure


def _draw_cells(
    figure: MatplotlibFigure,
    ax: Axes,
    image: np.ndarray,
    metric: Metric,
    limits: tuple[float, float],
) -> None:
    low, high = limits
    mesh = ax.imshow(image, cmap=COLOURS[metric.better], vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(image):
        if np.isnan(value):
            ax.text(column, row, "-", ha="center", va="center", fontsize=7)
            continue
        red, green, blue, _ = mesh.cmap(mesh.norm(value))
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        text = f"{value:.{min(metric.digits, 2)}f}"
        colour = "black" if is_bright else "white"
        ax.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    ax.axvline(image.shape[1] - 1.5, color="white", linewidth=4)
    ax.spines[:].set_visible(False)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    is_beyond = (bool(np.nanmin(image) < low), bool(np.nanmax(image) > high))
    bar = figure.colorbar(mesh, ax=ax, extend=beyond.get(is_beyond, "both"), aspect=14, pad=0.015)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _colour_range(image: np.ndarray, metric: Metric) -> tuple[float, float]:
    """Return the scores at which colours begin and end, without stragglers on the bad side."""
    low, high = float(np.nanmin(image)), float(np.nanmax(image))
    first, third = np.nanpercentile(image, [25, 75])
    reach = WHISKER * (third - first)
    if metric.better == "higher":
        low = max(low, float(first - reach))
    else:
        high = min(high, float(third + reach))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _modalities(columns: Sequence[LayoutColumn]) -> dict[int, str]:
    """Name the modalities by their place; empty if the columns do not tell subsets."""
    names: dict[int, str] = {}
    for column in columns:
        parts = column.long_name.split("+")
        if column.subset is not None and len(parts) == len(column.subset):
            names |= dict(zip(column.subset, parts, strict=True))
        elif column.subset is not None:
            names = {m: names.get(m, f"modality {m}") for m in {*names, *column.subset}}
    return dict(sorted(names.items()))


def _draw_dots(ax: Axes, columns: Sequence[LayoutColumn], modalities: dict[int, str]) -> None:
    """Draw a dot per modality and column, dark where the subset holds it, joined by a line."""
    places = {m: i for i, m in enumerate(modalities)}
    for x, column in enumerate(columns):
        held = [places[m] for m in column.subset or ()]
        ax.scatter([x] * len(places), list(places.values()), s=34, color="#d9d9d9")
        ax.scatter([x] * len(held), held, s=34, color="#202020", zorder=3)
        if len(held) > 1:
            ax.plot([x, x], [min(held), max(held)], color="#202020", linewidth=1.5)
    ax.set_yticks(list(places.values()), list(modalities.values()))
    ax.set_ylim(max(len(places), 1) - 0.5, -0.5)
    headers = [*(column.header for column in columns), "AVG"]
    ax.set_xticks(range(len(headers)), headers)
    ax.tick_params(length=0, labelsize=8)
    ax.spines[:].set_visible(False)


PLUGIN = HeatMap
