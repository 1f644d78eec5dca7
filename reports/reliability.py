"""Reliability diagram: how often a method is right when it says how sure it is.

Cases are put into the bins of ECE by the probability of the predicted class; a point is a bin, its
area the share of cases in it. Points below the diagonal are overconfident. A colour is a number of
modalities, so that one sees whether confidence falls as it should when less is there.

Source: Guo et al., "On calibration of modern neural networks", 2017, figure 1.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import BLUE, GREEN, ORANGE, LayoutFigure, file_name, legend_beside, panels, title
from bench.layout import LayoutColumn
from bench.metrics import N_BINS, ece
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.reporting.differences import Rows
from bench.scores.rows import RowRuns

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PER_ROW = 4
PANEL_INCHES = (1.9, 2.0)
AREA = 130.0  # square points of a bin that holds all cases
SERIES = ((ORANGE, "v"), (GREEN, "s"), (BLUE, "o"))  # fewest, between, most


class Reliability(LayoutFigure):
    """Confidence against accuracy."""

    name = "reliability"
    display_name = "Reliability diagram"
    needs = "a finished run"

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw the finished runs, a panel per row."""
        import pandas as pd

        rows = Rows.of(contents)
        data = pd.DataFrame(_points(rows))
        if len(data):
            name = file_name(self.name, contents.layout.title)
            yield Drawing(name, _figure(rows, data), data)


def _groups(columns: Sequence[LayoutColumn]) -> dict[str, list[LayoutColumn]]:
    """Group columns by what they keep, three at most: the least, the middle one, the most."""
    groups: dict[str, list[LayoutColumn]] = {}
    for column in sorted(columns, key=_size):
        groups.setdefault(_group_name(column), []).append(column)
    if len(groups) <= len(SERIES):
        return groups
    names = list(groups)
    return {name: groups[name] for name in (names[0], names[len(names) // 2], names[-1])}


def _size(column: LayoutColumn) -> float:
    """Order columns from what keeps little to what keeps much."""
    return len(column.subset) if column.subset is not None else -(column.rate or 0.0)


def _group_name(column: LayoutColumn) -> str:
    if column.subset is None:
        return column.name
    n = len(column.subset)
    return f"{n} modalit{'y' if n == 1 else 'ies'}"


def _points(rows: Rows) -> Iterator[dict[str, Any]]:
    """Yield a line per row, group of columns and bin that holds a case."""
    groups = _groups(rows.contents.columns)
    for label, row in rows.by_label.items():
        for name, columns in groups.items():
            label_of, proba = _pooled(row, columns)
            for line in _bins(label_of, proba):
                table = rows.contents.layout.title
                yield {"table": table, "method": label, "given": name, **line}


def _pooled(row: RowRuns, columns: Sequence[LayoutColumn]) -> tuple[np.ndarray, np.ndarray]:
    """Put the predictions of all repeats and columns together: labels (N,), (N, K)."""
    places = {column.place for column in columns}
    parts = [
        part
        for run in row.done
        for condition, part in run.parts.items()
        if (run.setting, condition) in places
    ]
    if not parts:
        return np.empty(0, int), np.empty((0, 2))
    return np.concatenate([each[1] for each in parts]), np.concatenate([each[2] for each in parts])


def _bins(label: np.ndarray, proba: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the bins of ECE, (lo, hi], that hold a case."""
    if not len(label):
        return
    confidence, is_right = proba.max(1), proba.argmax(1) == label
    where = np.digitize(confidence, np.arange(1, N_BINS) / N_BINS, right=True)
    error = 100 * ece(label, proba)
    for place in np.unique(where):
        inside = where == place
        yield {
            "bin": int(place) + 1,
            "confidence": float(confidence[inside].mean()),
            "accuracy": float(is_right[inside].mean()),
            "share": float(inside.mean()),
            "n": int(inside.sum()),
            "ece": error,
        }


def _figure(rows: Rows, data: pd.DataFrame) -> Any:
    from matplotlib.lines import Line2D

    methods, groups = list(dict.fromkeys(data["method"])), list(dict.fromkeys(data["given"]))
    # a lone group is what everything is given: it has the colour of the most
    looks = dict(zip(groups, _looks(len(groups)), strict=True))
    figure, axes = panels(len(methods), PER_ROW, PANEL_INCHES, sharex=True, sharey=True)
    for ax, method in zip(axes, methods, strict=True):
        _draw_panel(ax, data[data["method"] == method], looks)
        ax.set_title(textwrap.shorten(method, 30, placeholder="..."), fontsize=8)
    handles = [
        Line2D([], [], color=colour, marker=marker, linewidth=1, label=name)
        for name, (colour, marker) in looks.items()
    ]
    legend_beside(figure, handles)
    figure.supylabel("accuracy", fontsize=8)
    note = (
        f"Across: confidence, the probability of the predicted class, in {N_BINS} equal bins. "
        "Area: share of cases, pooled over repeats and columns. Below the diagonal: overconfident. "
        "Numbers: ECE in percent of the pooled cases, in the order of the legend."
    )
    title(figure, f"{rows.contents.layout.title}: reliability", note)
    return figure


def _looks(n: int) -> tuple[tuple[str, str], ...]:
    return {1: SERIES[2:], 2: SERIES[::2]}.get(n, SERIES)


def _draw_panel(ax: Axes, points: pd.DataFrame, looks: dict[str, tuple[str, str]]) -> None:
    ax.plot([0, 1], [0, 1], color="#808080", linewidth=0.8, linestyle=":")
    for i, (name, (colour, marker)) in enumerate(looks.items()):
        line = points[points["given"] == name]
        if not len(line):
            continue
        ax.plot(line["confidence"], line["accuracy"], color=colour, linewidth=0.8, alpha=0.7)
        area = 6 + AREA * line["share"]
        ax.scatter(
            line["confidence"], line["accuracy"], s=area, color=colour, marker=marker, alpha=0.6,
            linewidths=0,
        )  # fmt: skip
        text = f"{line['ece'].iloc[0]:.1f}"
        ax.text(0.03, 0.97 - 0.11 * i, text, color=colour, fontsize=7.5, va="top")
    ax.set(xlim=(0, 1.04), ylim=(0, 1.04))
    ax.set_xticks([0, 0.5, 1])
    ax.set_yticks([0, 0.5, 1])
    ax.set_aspect("equal")


PLUGIN = Reliability
