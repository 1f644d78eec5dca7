"""Available against completed tokens in one plane: does what a method puts in place tell as much?

A row of panels per method that completes, a panel per modality; all panels of a row are one joint
embedding. A ring is what a case has, a cross what the method puts in its place when the case lacks
it; colour is the class. Vectors are means over the tokens of a modality. Needs runs that were asked
with `--keep-representations`; the ablations of CMML's figure are rows of `bench ablate`.

Source: CMML paper, figure 5.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench import planes
from bench.drawing import LayoutFigure, file_name, legend_beside, panels, title
from bench.layout import LayoutColumn
from bench.report import Drawing
from bench.reporting.contents import Contents
from bench.runner.representations import LEAST_CASES, Represented, embed, is_constant
from bench.scores.rows import RowRuns
from bench.wording import listed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

PANEL_INCHES = (2.3, 2.5)
KINDS = {"available": ("o", False), "completed": ("x", True)}  # marker, whether it is filled


class TsneCompleted(LayoutFigure):
    """t-SNE of available and completed tokens."""

    name = "tsne-completed"
    display_name = "Available and completed tokens in the plane"
    needs = planes.NEEDS

    def draw_layout(self, contents: Contents) -> Iterator[Drawing]:
        """Draw what the methods complete, if runs kept it."""
        import pandas as pd

        data = pd.DataFrame(line for row in contents.rows for line in _points(contents, row))
        if len(data):
            name = file_name(self.name, contents.layout.title)
            yield Drawing(name, _figure(contents, data), data)


@dataclass(frozen=True, eq=False)
class _Set:
    """Vectors of one modality, either had or made."""

    modality: int
    kind: str
    column: LayoutColumn  # that they were made in
    case: np.ndarray  # (n,) str
    label: np.ndarray  # (n,) int
    values: np.ndarray  # (n, D)


def _points(contents: Contents, row: RowRuns) -> Iterator[dict[str, Any]]:
    """Yield a line per modality, kind and case of one row, from one joint embedding."""
    repeat, columns = planes.kept_columns(contents, row)
    sets = list(_sets(columns))
    if not sets or repeat is None:
        return
    joint = embed(np.concatenate([each.values for each in sets]))
    ends = np.cumsum([len(each.case) for each in sets])[:-1]
    names, labels = _names(row), planes.row_names(contents.rows)
    for each, plane in zip(sets, np.split(joint, ends), strict=True):
        yield from planes.lines_of(
            each.label,
            each.case,
            plane,
            table=contents.layout.title,
            method=labels[row.label],
            modality=names[each.modality] if names else f"modality {each.modality}",
            kind=each.kind,
            column=each.column.name,
            fold=repeat[0],
            seed=repeat[1],
            **planes.numbers_of(each.values, plane, each.label),
        )


def _names(row: RowRuns) -> list[str]:
    """Read the names of the modalities from what prepared a run's cases, if it is there."""
    for folder in (run.folder for run in row.done):
        if folder is not None and folder.path_of("preprocessor.json").is_file():
            return list(folder.read_json("preprocessor.json")["modalities"])
    return []


def _sets(columns: Sequence[tuple[LayoutColumn, Represented]]) -> Iterator[_Set]:
    """Yield both sets of every modality that is completed case by case.

    What cases have is taken from the column where the most have it, what is made from the one where
    the most lack it; of equals the column in which cases have the most besides.
    """
    modalities = sorted({m for _, kept in columns for m in kept.completed})
    for m in modalities:
        with_m = [(column, kept) for column, kept in columns if m in kept.completed]
        pair = [_chosen(with_m, m, has=has) for has in (True, False)]
        is_made = [len(each.case) >= LEAST_CASES and not is_constant(each.values) for each in pair]
        if all(is_made):
            yield from pair


def _chosen(columns: Sequence[tuple[LayoutColumn, Represented]], m: int, *, has: bool) -> _Set:
    def rank(each: tuple[LayoutColumn, Represented]) -> tuple[int, int]:
        available = each[1].available
        return int((available[:, m] == has).sum()), int(available.sum())

    column, kept = max(columns, key=rank)
    rows = np.flatnonzero(kept.available[:, m] == has)
    rows = rows[planes.chosen_cases(len(rows))]
    kind = "available" if has else "completed"
    return _Set(m, kind, column, kept.case[rows], kept.label[rows], kept.completed[m][rows])


def _figure(contents: Contents, data: pd.DataFrame) -> Any:
    from matplotlib.lines import Line2D

    methods, modalities = (list(dict.fromkeys(data[name])) for name in ("method", "modality"))
    n = len(methods) * len(modalities)
    figure, axes = panels(n, len(modalities), PANEL_INCHES)
    for i, ax in enumerate(axes):
        method, modality = methods[i // len(modalities)], modalities[i % len(modalities)]
        part = data[(data["method"] == method) & (data["modality"] == modality)]
        _draw_panel(ax, part)
        if i < len(modalities):
            ax.set_title(textwrap.shorten(modality, 30, placeholder="..."), fontsize=8)
        if i % len(modalities) == 0:
            ax.set_ylabel(textwrap.fill(method, 26), fontsize=8)
    names = planes.class_names(contents, int(data["label"].max()) + 1)
    handles = planes.legend_of(names, Line2D, marker="o")
    for kind, (marker, fill) in KINDS.items():
        colour = "#404040" if fill else "none"
        look: dict[str, Any] = {"color": "#404040", "markerfacecolor": colour, "markersize": 5}
        handles.append(Line2D([], [], linestyle="", marker=marker, label=kind, **look))
    legend_beside(figure, handles)
    note = (
        f"{planes.trainings_sentence(data)} {planes.READING} Vectors: means over the tokens of a "
        f"modality. A row of panels is one joint embedding. {_left_out(contents, methods)}"
    )
    title(figure, f"{contents.layout.title}: available and completed tokens", note)
    return figure


def _left_out(contents: Contents, shown: Sequence[str]) -> str:
    """Name the rows that complete, but nothing that tells cases apart."""
    names = planes.row_names(contents.rows)
    named = [
        names[row.label]
        for row in contents.rows
        if names[row.label] not in shown
        and any(kept.completed for _, kept in planes.kept_columns(contents, row)[1])
    ]
    if not named:
        return ""
    return f"Left out, as their completion is the same for every case: {listed(named)}."


def _draw_panel(ax: Axes, points: pd.DataFrame) -> None:
    planes.bare(ax)
    said = []
    for kind, (marker, fill) in KINDS.items():
        part = points[points["kind"] == kind]
        if len(part):
            planes.draw_classes(ax, part, marker=marker, fill=fill)
            said.append(f"{kind}: {planes.in_words(part.iloc[0].to_dict())}")
    ax.set_xlabel("\n".join(said) or "not completed case by case", fontsize=6)


PLUGIN = TsneCompleted
