"""Curves of score against missing rate: how fast each method loses.

A line per method, a panel per protocol and training, a figure per dataset and metric. The band is
one sample SD over repeats to each side; one repeat has none.

Source: AlignedFusion paper (2026), figure 3.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import nan
from typing import TYPE_CHECKING, Any

from bench.layout import Layout
from bench.report import DEFAULTS, Drawing, Figure, ReportOptions
from bench.reporting.contents import Contents, Part
from bench.scores.metrics import metric_named
from bench.scores.results import RunResult
from bench.scores.subgroups import Subgroup

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as MatplotlibFigure

PANELS_PER_ROW = 3
PANEL_INCHES = (3.3, 2.7)
LETTER_INCHES, HANDLE_INCHES, LINE_INCHES = 0.065, 0.75, 0.18  # of the legend, 8 points
MARKERS = "osD^vPXp<>*"  # eleven, beside ten colours: pairs repeat after 110 methods
DASHES = ("-", "--", "-.", ":")  # lines that lie on each other stay apart
LINE = {"linewidth": 1.3, "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.6}


class Curves(Figure):
    """Score against missing rate."""

    name = "curves"
    display_name = "Degradation curves"
    needs = "tests at rates, such as those of `bench run -p c-tr+m-te`"

    def draw(
        self,
        results: Sequence[RunResult],
        layouts: Sequence[Layout],
        options: ReportOptions = DEFAULTS,
    ) -> list[Drawing]:
        """Draw the layouts whose columns are rates; the others are left out."""
        import pandas as pd

        drawings = []
        rates = [layout for layout in layouts if layout.kind == "rates"]
        for dataset in dict.fromkeys(layout.dataset for layout in rates):
            contents = [
                Contents.of(results, layout, options)
                for layout in rates
                if layout.dataset == dataset
            ]
            points = pd.DataFrame([point for each in contents for point in _points(each)])
            for metric in options.metrics if len(points) else ():
                chosen = points[points["metric"] == metric]
                figure = _figure(chosen, f"{dataset}: {metric}", _note(contents))
                drawings.append(Drawing(f"{self.name}-{dataset}-{metric}", figure, chosen))
        return drawings


def _points(contents: Contents) -> Iterator[dict[str, Any]]:
    """Yield one point per row, column and metric that has a score."""
    part = Part.of(contents, Subgroup("", contents.rows))
    for row, grid in zip(contents.rows, part.grids, strict=True):
        for metric in map(metric_named, contents.options.metrics):
            for column in contents.columns:
                found = grid.cell(metric.name, column.place)
                if found.n_repeats and column.rate is not None:
                    yield {
                        "dataset": contents.layout.dataset,
                        "panel": _panel(contents.layout, column.block),
                        "axis": contents.layout.axis.partition(";")[0],
                        "training": column.setting,
                        "condition": column.condition,
                        "rate": column.rate,
                        "method": row.label,
                        "metric": metric.name,
                        "unit": metric.unit,
                        "mean": metric.factor * found.mean,
                        "sd": nan if found.spread is None else metric.factor * found.spread,
                        "repeats": found.n_repeats,
                        "n": grid.n_cases[column.place],
                    }


def _panel(layout: Layout, block: str) -> str:
    """Title a panel: `M-Tr+M-Te (attributes), train 50 %`."""
    title = f"{layout.display_name} ({layout.variant})" if layout.variant else layout.display_name
    return f"{title}, {block}" if block else title


def _note(contents: Sequence[Contents]) -> str:
    """Say what the band is, what is absent, and which rows are not there."""
    counts = sorted({len(each.repeats) for each in contents})
    several = " or ".join(str(n) for n in counts if n > 1)
    band = f"Band: ± sample SD over {several} repeats" if several else "One repeat: no band"
    band += "; none where there is one repeat." if several and counts[0] == 1 else "."
    laws = dict.fromkeys(each.layout.law for each in contents if each.layout.law)
    empty = dict.fromkeys(row.label for each in contents for row in each.rows if not row.done)
    missing = f"Without a finished run: {', '.join(empty)}." if empty else ""
    return " ".join(filter(None, [band, *(f"Absent: {law}." for law in laws), missing]))


def _figure(points: pd.DataFrame, title: str, note: str) -> MatplotlibFigure:
    """Lay out the panels with one legend below them."""
    from matplotlib.figure import Figure as MatplotlibFigure

    panels = list(dict.fromkeys(points["panel"]))
    n_columns = min(len(panels), PANELS_PER_ROW)
    n_rows = -(-len(panels) // n_columns)
    styles = _styles(list(dict.fromkeys(points["method"])))
    legend = _Legend.of(styles, note, max(n_columns * PANEL_INCHES[0], 4.2))
    size = (legend.width, n_rows * PANEL_INCHES[1] + legend.height + 0.5)
    figure = MatplotlibFigure(figsize=size, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _draw_panel(ax, points[points["panel"] == panel], styles)
        ax.set_title(textwrap.fill(panel, 40), fontsize=9)
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax in axes[::n_columns]:
        ax.set_ylabel(_score_label(points["metric"].iloc[0]), fontsize=9)
    figure.suptitle(title, fontsize=10)
    legend.put(figure, styles)
    return figure


@dataclass(frozen=True)
class _Legend:
    """The legend below the panels, with the note as its title; sizes in inches."""

    width: float
    note: str
    n_beside: int
    n_lines: int

    @classmethod
    def of(cls, methods: Collection[str], note: str, width: float) -> _Legend:
        """Fit the methods into a width."""
        entry = max(map(len, methods)) * LETTER_INCHES + HANDLE_INCHES
        n_beside = max(1, min(len(methods), int(width / entry)))
        note = textwrap.fill(note, int(width / LETTER_INCHES))
        return cls(width, note, n_beside, -(-len(methods) // n_beside) + note.count("\n") + 1)

    @property
    def height(self) -> float:
        return self.n_lines * LINE_INCHES

    def put(self, figure: MatplotlibFigure, styles: dict[str, dict[str, Any]]) -> None:
        """Draw it."""
        from matplotlib.lines import Line2D

        figure.legend(
            handles=[Line2D([], [], label=method, **style) for method, style in styles.items()],
            loc="outside lower center",
            ncols=self.n_beside,
            title=self.note,
            title_fontsize=7,
            fontsize=8,
            frameon=False,
            handlelength=3.5,
        )


def _score_label(name: str) -> str:
    """Label the axis of a metric: `AUC (%)`, `NLL, lower is better`."""
    metric = metric_named(name)
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{name}{unit}{', lower is better' if metric.better == 'lower' else ''}"


def _styles(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Give each method a colour that the colour-blind tell apart, a marker and a dash."""
    import seaborn

    colours = cycle(seaborn.color_palette("colorblind"))
    return {
        method: {"color": colour, "marker": marker, "linestyle": dash, **LINE}
        for method, colour, marker, dash in zip(
            methods, colours, cycle(MARKERS), cycle(DASHES), strict=False
        )
    }


def _draw_panel(ax: Axes, points: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    for method, line in points.groupby("method", sort=False):
        line = line.sort_values("rate")
        style = styles[str(method)]
        ax.plot(100 * line["rate"], line["mean"], **style)
        low, high = line["mean"] - line["sd"], line["mean"] + line["sd"]
        ax.fill_between(100 * line["rate"], low, high, color=style["color"], alpha=0.15, lw=0)
    ax.set_xticks(sorted({100 * rate for rate in points["rate"]}))
    ax.set_xlabel(f"{points['axis'].iloc[0]} (%)", fontsize=8)
    ax.tick_params(labelsize=8)
    ax.grid(axis="y", alpha=0.3, linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)


PLUGIN = Curves
