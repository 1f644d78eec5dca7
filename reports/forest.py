"""Forest plot: every row's AVG minus that of the reference, with a 95 % interval over repeats.

The reference is the row asked for, else the first of the study that finished. An interval that
holds zero is grey; rows far beyond the others are triangles at the edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import (
    BLUE,
    GREY,
    ORANGE,
    LayoutFigure,
    file_name,
    panels,
    title,
    without_stragglers,
)
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.reporting.differences import INTERVALS, Rows
from bench.scores.metrics import Metric, metric_named
from bench.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

ROW_INCHES = 0.27


class Forest(LayoutFigure):
    """Differences to the reference."""

    name = "forest"
    display_name = "Forest plot of differences"
    needs = "two finished rows"

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw two finished rows or more, a figure per metric."""
        rows = Rows.of(contents)
        if len(rows.grids) < 2:
            return
        drawings = (_drawing(rows, metric_named(name)) for name in contents.options.metrics)
        yield from filter(None, drawings)


def _drawing(rows: Rows, metric: Metric) -> Drawing | None:
    """Draw a panel per block of columns; nothing if no row shares a repeat with the reference."""
    import pandas as pd

    layout, reference = rows.contents.layout, rows.reference
    data = pd.DataFrame(_lines(rows, metric, reference))
    if not len(data):
        return None
    names = list(dict.fromkeys(data["block"]))
    n_rows = int(data.groupby("block").size().max())
    figure, axes = panels(len(names), 2, (5.6, ROW_INCHES * n_rows + 0.6))
    for ax, name in zip(axes, names, strict=True):
        _draw_panel(ax, data[data["block"] == name].iloc[::-1], metric)
        ax.set_title(name, fontsize=9)
    for ax in axes:
        better = "right" if metric.better == "higher" else "left"
        unit = f", {metric.unit} points" if metric.unit else ""
        text = f"difference of AVG {metric.name}{unit}; better to the {better}"
        ax.set_xlabel(text, fontsize=8)
    heading = f"{layout.title}: {metric.name} minus that of {reference}"
    title(figure, heading, _note(rows, int(data["repeats"].max())))
    return Drawing(file_name(Forest.name, layout.title, metric.name), figure, data)


def _note(rows: Rows, n_repeats: int) -> str:
    if rows.design == "single":
        return (
            "One repeat: no interval, so that no difference is sure. Triangles: points beyond the "
            "edge."
        )
    return (
        f"Lines: {INTERVALS[rows.design]}, {counted(n_repeats, 'repeat')}; grey where zero is "
        "inside. Triangles: points beyond the edge, where lines are cut too."
    )


def _lines(rows: Rows, metric: Metric, reference: str) -> Iterator[dict[str, Any]]:
    """Yield a line per block and row but the reference, the best first."""
    sign = -1.0 if metric.better == "higher" else 1.0
    for block in rows.contents.blocks:
        columns = rows.columns(metric.name, block)
        found = {
            label: rows.difference(label, reference, metric.name, columns)
            for label in rows.grids
            if label != reference
        }
        known = {label: each for label, each in found.items() if each.n_repeats}
        for label, each in sorted(known.items(), key=lambda item: sign * item[1].mean):
            low, high = each.interval or (nan, nan)
            yield {
                "table": rows.contents.layout.title,
                "block": block,
                "method": label,
                "reference": reference,
                "metric": metric.name,
                "unit": metric.unit,
                "difference": metric.factor * each.mean,
                "low": metric.factor * low,
                "high": metric.factor * high,
                "repeats": each.n_repeats,
            }


def _draw_panel(ax: Axes, lines: pd.DataFrame, metric: Metric) -> None:
    sign = 1.0 if metric.better == "higher" else -1.0
    places = np.arange(len(lines))
    ends = lines[["low", "difference", "high"]].to_numpy(float).ravel()
    limits = without_stragglers([0.0, *ends], metric.better)
    ax.axvline(0, color="#404040", linewidth=0.8, linestyle=":")
    for place, line in zip(places.tolist(), lines.to_dict("records"), strict=True):
        is_clear = line["low"] > 0 or line["high"] < 0
        colour = (BLUE if sign * line["difference"] > 0 else ORANGE) if is_clear else GREY
        ax.plot([line["low"], line["high"]], [place, place], color=colour, linewidth=2)
        shown = min(max(line["difference"], limits[0]), limits[1])
        marker = "<" if shown > line["difference"] else ">" if shown < line["difference"] else "o"
        ax.plot(shown, place, marker=marker, color=colour, markersize=6, clip_on=False)
        at = ax.get_yaxis_transform()  # x in shares of the panel, y in rows
        ax.text(1.02, place, _numbers(line, metric), va="center", fontsize=7.5, transform=at)
    ax.set_yticks(places, lines["method"].tolist())
    ax.set(xlim=limits, ylim=(-0.6, len(lines) - 0.4))
    ax.grid(axis="x", alpha=0.25, linewidth=0.5)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0, pad=7)  # a triangle at the edge needs room


def _numbers(line: Mapping[Any, Any], metric: Metric) -> str:
    """Write `+1.20 [-0.30, 2.70]`, without brackets if there is no interval."""
    mean, low, high = (line[name] for name in ("difference", "low", "high"))
    digits = metric.digits
    interval = "" if np.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{mean:+.{digits}f}{interval}"


PLUGIN = Forest
