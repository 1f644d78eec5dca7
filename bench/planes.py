"""What the figures of representations share: whose vectors, how far classes are apart, one panel.

A plane is of one training: what two trainings learn has no axis in common. Distances between far
clusters of a t-SNE mean nothing, so every panel prints numbers of the original space, and those of
the plane beside them in brackets.
"""

# n cases

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.drawing import COLOURS, MARKERS
from bench.layout import LayoutColumn
from bench.reporting.contents import Contents
from bench.runner.representations import PERPLEXITY, Represented, Separation, read, separation
from bench.scores.captions import repeat_name
from bench.scores.results import Repeat, RunResult
from bench.scores.rows import RowRuns
from bench.wording import counted

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CLASS_COLOURS = (*COLOURS, "#882255", "#117733", "#999933")  # ten; the last are of Paul Tol
MAX_CASES = 300  # of one set of vectors: more hide each other, and take minutes
NEEDS = "runs that `bench run ... --keep-representations` was asked for, now or later"
NUMBERS = ("silhouette", "knn_accuracy", "plane_silhouette", "plane_knn_accuracy", "largest_class")
READING = (
    "s: silhouette of the classes; kNN: share of cases that their 5 nearest others put into the "
    "right class; both in the original space, in brackets in the plane. "
    f"t-SNE: perplexity {PERPLEXITY:g}, one seed, from principal components; what lies far apart "
    "has no scale."
)


def kept_columns(
    contents: Contents, row: RowRuns
) -> tuple[Repeat | None, list[tuple[LayoutColumn, Represented]]]:
    """Return the first repeat of a row that kept anything, and what it kept by column."""
    for repeat in sorted({run.repeat for run in row.done}):
        by_setting = {run.setting: _kept(run) for run in row.done if run.repeat == repeat}
        found = [
            (column, by_setting[column.setting][column.condition])
            for column in contents.columns
            if column.condition in by_setting.get(column.setting, {})
        ]
        if found:
            return repeat, found
    return None, []


def _kept(run: RunResult) -> dict[str, Represented]:
    return read(run.folder.representations()) if run.folder is not None else {}


def row_names(rows: Sequence[RowRuns]) -> dict[str, str]:
    """Name rows by label; those of one method by what most of the others do not have.

    `cmml #2` of an ablation becomes `cmml: no_memory = True`, the whole method `cmml #1`.
    """
    said = {row.label: [each for each in row.differs.split(", ") if each] for row in rows}
    names = {}
    for row in rows:
        stem = row.label.partition(" #")[0]
        kin = [said[each.label] for each in rows if each.label.partition(" #")[0] == stem]
        own = [
            each.removeprefix("method_config.")
            for each in said[row.label]
            if 2 * sum(each in other for other in kin) < len(kin)
        ]
        names[row.label] = f"{stem}: {', '.join(own)}" if own else row.label
    return names


def class_names(contents: Contents, n_classes: int) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers where no run noted them."""
    for run in contents.done:
        if len(run.facts.get("classes", ())) >= n_classes:
            return tuple(run.facts["classes"])
    return tuple(f"class {k}" for k in range(n_classes))


def chosen_cases(n: int, *, seed: int = 0) -> np.ndarray:
    """Return the places of all cases, or of `MAX_CASES` that are drawn, ascending."""
    if n <= MAX_CASES:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, MAX_CASES, replace=False))


def numbers_of(values: np.ndarray, plane: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Measure a set of vectors in their own space and in the plane, by the names of `NUMBERS`."""
    own, flat = separation(values, label), separation(plane, label)
    found = (own.silhouette, own.knn_accuracy, flat.silhouette, flat.knn_accuracy)
    return dict(zip(NUMBERS, (*found, own.largest_class), strict=True))


def in_words(numbers: Mapping[Any, Any]) -> str:
    """Print them: `s 0.12 (0.20)  kNN 91 (93) %`."""
    own = Separation(*(float(numbers[name]) for name in (*NUMBERS[:2], NUMBERS[4])))
    flat_s, flat_knn = (float(numbers[name]) for name in NUMBERS[2:4])
    if np.isnan(own.silhouette):
        return "too few cases"
    knn = f"kNN {100 * own.knn_accuracy:.0f} ({100 * flat_knn:.0f}) %"
    return f"s {own.silhouette:.2f} ({flat_s:.2f})  {knn}"


def lines_of(
    label: np.ndarray, case: np.ndarray, plane: np.ndarray, **same: object
) -> Iterator[dict[str, Any]]:
    """Yield a line of numbers per case, with what all of them share."""
    for name, k, (x, y) in zip(case.tolist(), label.tolist(), plane.tolist(), strict=True):
        yield {**same, "case": name, "label": k, "x": x, "y": y}


def trainings_sentence(data: pd.DataFrame) -> str:
    """Say which training the panels are of."""
    repeats = sorted(set(zip(data["fold"].tolist(), data["seed"].tolist(), strict=True)))
    several = " (of each row the first that kept them)" if len(repeats) > 1 else ""
    share = f"The largest class has {100 * data['largest_class'].max():.0f} % of a panel at most."
    n_cases = counted(data["case"].nunique(), "test case")
    return f"One training: {'; '.join(map(repeat_name, repeats))}{several}; {n_cases}. {share}"


def draw_classes(
    ax: Axes, points: pd.DataFrame, *, marker: str = "", fill: bool = True, size: float = 9.0
) -> None:
    """Scatter cases by class; without a marker each class has its own."""
    for k in sorted(set(points["label"].tolist())):
        part, colour = points[points["label"] == k], CLASS_COLOURS[k % len(CLASS_COLOURS)]
        look: dict[str, Any] = {"color": colour, "linewidths": 0.7}
        if not fill:
            look = {"facecolors": "none", "edgecolors": colour, "linewidths": 0.6}
        shape = marker or MARKERS[k % len(MARKERS)]
        ax.scatter(part["x"], part["y"], s=size, marker=shape, alpha=0.7, **look)


def bare(ax: Axes) -> None:
    """Take ticks away, since a plane has no unit, and frame it."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[["top", "right"]].set_visible(True)
    for spine in ax.spines.values():
        spine.set(linewidth=0.5, color="#a0a0a0")


def legend_of(names: Sequence[str], look: Callable[..., Any], *, marker: str = "") -> list[Any]:
    """Return a handle per class, with the markers of `draw_classes`."""
    return [
        look(
            [],
            [],
            linestyle="",
            marker=marker or MARKERS[k % len(MARKERS)],
            color=CLASS_COLOURS[k % len(CLASS_COLOURS)],
            label=name,
        )
        for k, name in enumerate(names)
    ]
