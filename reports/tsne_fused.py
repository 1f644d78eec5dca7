"""Fused features in the plane: how far the classes are apart, by method and subset.

A row of panels per method, a panel per column; colour is the class. Needs runs that were asked with
`--keep-representations`.

Source: CMML paper, figure 8, which uses MDA (manifold discovery and analysis); its code is no
dependency of ours, so that this is a t-SNE of the same features with numbers that do not depend on
the picture.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bench import planes
from bench.drawing import LayoutFigure, file_name, legend_beside, panels, title
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.runner.representations import LEAST_CASES, embed, is_constant

if TYPE_CHECKING:
    import pandas as pd

MAX_COLUMNS = 8
PANEL_INCHES = (1.75, 1.95)


class TsneFused(LayoutFigure):
    """t-SNE of what the classifier reads."""

    name = "tsne-fused"
    display_name = "Fused features in the plane"
    needs = planes.NEEDS

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw the fused features, if runs kept them."""
        import pandas as pd

        data = pd.DataFrame(_points(contents))
        if len(data):
            name = file_name(self.name, contents.layout.title)
            yield Drawing(name, _figure(contents, data), data)


def _points(contents: Contents) -> Iterator[dict[str, Any]]:
    """Yield a line per method, column and case."""
    labels = planes.row_names(contents.rows)
    for row in contents.rows:
        repeat, columns = planes.kept_columns(contents, row)
        if len(columns) > MAX_COLUMNS:  # the last one has the most, or the highest rate
            columns = [*columns[: MAX_COLUMNS - 1], columns[-1]]
        for column, kept in columns:
            if kept.fused is None or len(kept.case) < LEAST_CASES or is_constant(kept.fused):
                continue
            chosen = planes.chosen_cases(len(kept.case))
            values, label = kept.fused[chosen], kept.label[chosen]
            plane = embed(values)
            yield from planes.lines_of(
                label,
                kept.case[chosen],
                plane,
                table=contents.layout.title,
                method=labels[row.label],
                column=column.name,
                long_name=column.long_name,
                fold=repeat[0] if repeat else 0,
                seed=repeat[1] if repeat else 0,
                **planes.numbers_of(values, plane, label),
            )


def _figure(contents: Contents, data: pd.DataFrame) -> Any:
    from matplotlib.lines import Line2D

    methods, columns = (list(dict.fromkeys(data[name])) for name in ("method", "column"))
    n = len(methods) * len(columns)
    figure, axes = panels(n, len(columns), PANEL_INCHES)
    for i, ax in enumerate(axes):
        method, column = methods[i // len(columns)], columns[i % len(columns)]
        part = data[(data["method"] == method) & (data["column"] == column)]
        planes.bare(ax)
        said = "the same for all cases, or not kept"
        if len(part):
            planes.draw_classes(ax, part, size=7.0)
            said = planes.in_words(part.iloc[0].to_dict())
        ax.set_xlabel(said, fontsize=6)
        if i < len(columns):
            ax.set_title(textwrap.shorten(column, 20, placeholder="..."), fontsize=8)
        if i % len(columns) == 0:
            ax.set_ylabel(textwrap.fill(method, 22), fontsize=8)
    names = planes.class_names(contents, int(data["label"].max()) + 1)
    handles = planes.legend_of(names, Line2D)
    legend_beside(figure, handles)
    n = len(contents.columns)
    fewer = f" {len(columns)} of {n} columns." if len(columns) < n else ""
    note = (
        f"{planes.trainings_sentence(data)}{fewer} {planes.READING} t-SNE stands in for the "
        "paper's MDA."
    )
    title(figure, f"{contents.layout.title}: fused features", note)
    return figure


PLUGIN = TsneFused
